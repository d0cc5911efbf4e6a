"""Heat maps of odd tokens, of one layer, of nothing to see, and of many at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.contracts.traces import Effects, Kind, TraceRequest, TraceResult
from service.heatmaps import Heatmaps, labels
from tests.service.tracing import BODY, trace_result

RESULT = trace_result(TraceRequest.model_validate(BODY))


def drawn(result: TraceResult, form: str = "svg", **options: Any) -> bytes:
    return Heatmaps().draw(result, [Kind.MLP], form, options.get("width", 600))


@pytest.mark.filterwarnings("error")
def test_tokens_may_be_anything() -> None:
    odd = ("$x$", "東京", "\n", "\t<b>", "é" * 40, "�", "", " of", "$")
    result = RESULT.model_copy(update={"tokens": odd})
    text = drawn(result).decode()
    for label in ("$x$*", "\\n", "\\t&lt;b&gt;", "é" * 23 + "…"):
        assert label in text, label
    assert labels(result)[3:5] == ["\\t<b>", "é" * 23 + "…"]


def test_only_traced_tokens_have_a_row() -> None:
    one = trace_result(TraceRequest.model_validate({**BODY, "tokens": "last-subject"}))
    assert labels(one) == ["Tower*"]
    assert b"Tower*" in drawn(one)
    assert b"Eiffel*" not in drawn(one)


@pytest.mark.parametrize("effects", [((0.0,),) * 9, ((-0.05, -0.01),) * 9])
def test_where_nothing_comes_back_there_is_a_picture_all_the_same(effects: tuple[tuple[float, ...], ...]) -> None:
    result = RESULT.model_copy(update={"effects": {Kind.MLP: Effects(mean=effects)}})
    assert drawn(result, "png").startswith(b"\x89PNG")


def test_a_long_prompt_makes_no_huge_picture() -> None:
    tokens = ("of",) * 256
    effects = {Kind.MLP: Effects(mean=((0.1, 0.2),) * 256)}
    result = RESULT.model_copy(update={"tokens": tokens, "traced": tuple(range(256)), "effects": effects})
    picture = drawn(result, "png", width=4000)
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert width * height <= 2**25 + 20_000


def test_threads_may_draw_at_once() -> None:
    heatmaps = Heatmaps()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: heatmaps.draw(RESULT, list(Kind), "png", 900), range(8)))
    assert set(found) == {found[0]}
