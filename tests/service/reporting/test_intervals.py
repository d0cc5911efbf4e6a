"""Every mean in a report's tables has its interval, wherever the result has one."""

import pytest

from service.contracts.benchmarks import BenchmarkResult, MethodResult
from service.reporting.figures import comparison, curve, measured, perplexity
from service.reporting.markdown import markdown
from service.reporting.page import page
from tests.service.benchmarking import benchmark, method_result

CI95 = {
    "perplexity_ratio": (1.1, 1.4),
    "kl": (0.25, 0.75),
    "seconds_per_edit": (5.5, 6.5),
    "seconds_per_record": (2.5, 3.5),
}
SHOWN = ("x 1.250 [1.100, 1.400]", "0.5 [0.25, 0.75]", "6 [5.5, 6.5]", "6 [2.5, 3.5]")


def of(*methods: MethodResult) -> BenchmarkResult:
    result = benchmark().result
    assert result is not None
    return result.model_copy(update={"methods": methods})


def test_means_over_edits_are_shown_with_theirs() -> None:
    result = of(method_result("rome", ci95=CI95))
    header, row = comparison(result)
    assert header[-5:] == ["perplexity", "KL", "s per edit", "s per record", "failed"]
    assert row[-5:-1] == list(SHOWN)
    for text in SHOWN:
        assert text in page(benchmark(), result)
        assert text.replace("[", "\\[").replace("]", "\\]") in markdown(benchmark(), result)


def test_a_result_without_them_is_shown_bare() -> None:
    row = comparison(of(method_result("rome")))[1]
    assert row[-5:-1] == ["x 1.250", "0.5", "6", "6"]
    bare = method_result("rome", perplexity_ratio=None, kl=None)
    assert perplexity(bare) == measured(bare, "kl") == "–"  # noqa: RUF001 - as in the report


@pytest.mark.parametrize("known", [True, False])
def test_checkpoints_are_shown_with_theirs(known: bool) -> None:
    method = method_result("rome", sequential=True)
    intervals = {"EA": (0.8, 0.95), "neighborhood_acc": (0.7, 0.8)} if known else {}
    points = tuple(
        point.model_copy(
            update={name: getattr(point, name).model_copy(update={"ci95": intervals}) for name in ("all", "first")}
        )
        for point in method.checkpoints
    )
    row = curve(method.model_copy(update={"checkpoints": points}))[1]
    expected = ["90.0 [80.0, 95.0]", "80.0 [80.0, 95.0]", "100.0", "75.0 [70.0, 80.0]"]
    assert row[1:5] == (expected if known else ["90.0", "80.0", "100.0", "75.0"])
