"""A trace's heat map over HTTP, as PNG and as SVG."""

import struct
from typing import Any

import httpx
import pytest

from tests.service.stand_in import StandIn
from tests.service.tracing import BODY, carry_out

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def completed(http: httpx.Client, worker: StandIn) -> str:
    """The path of a trace of two kinds."""
    trace_id = http.post("/traces", json={**BODY, "kinds": ["hidden", "mlp"]}).json()["id"]
    carry_out(worker, trace_id)
    return f"/traces/{trace_id}"


def size(picture: bytes) -> tuple[int, int]:
    """A PNG's width and height."""
    assert picture.startswith(PNG)
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def test_a_png_is_as_wide_as_asked(http: httpx.Client, completed: str) -> None:
    answer = http.get(f"{completed}.png")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.headers["X-Model-Revision"] == "0"
    assert size(answer.content)[0] == 1200
    one = http.get(f"{completed}.png", params={"kind": "mlp", "width": 600}).content
    assert size(one)[0] == 600
    assert size(one)[1] == size(answer.content)[1], "half the panels on half the width"


def test_an_svg_says_what_it_shows(http: httpx.Client, completed: str) -> None:
    answer = http.get(f"{completed}.svg", params={"kind": "hidden"})
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert http.get(f"{completed}.svg", params={"kind": "hidden"}).content == answer.content, "drawn alike every time"
    for words in ("Tower*", "located", "p(Paris)", "one hidden state", "layer"):
        assert words in answer.text, words
    assert "located*" not in answer.text, "only the subject is starred"
    assert "3 MLP outputs" in http.get(f"{completed}.svg").text


@pytest.mark.parametrize(
    ("suffix", "params", "status", "words"),
    [
        (".png", {"kind": "attn"}, 422, "take one of hidden, mlp"),
        (".png", {"kind": "all"}, 422, "'hidden', 'mlp' or 'attn'"),
        (".png", {"width": 20}, 422, "200"),
        (".png", {"colour": "blue"}, 422, "is not a known field"),
        (".gif", {}, 422, "'png' or 'svg'"),
    ],
)
def test_what_cannot_be_drawn(
    http: httpx.Client, completed: str, suffix: str, params: dict[str, Any], status: int, words: str
) -> None:
    answer = http.get(f"{completed}{suffix}", params=params)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


@pytest.mark.usefixtures("worker")
def test_a_trace_that_has_not_ended_is_not_drawn_yet(http: httpx.Client) -> None:
    trace_id = http.post("/traces", json=BODY).json()["id"]
    answer = http.get(f"/traces/{trace_id}.png")
    assert answer.status_code == 409
    assert "is queued and has nothing to draw" in answer.json()["detail"]
