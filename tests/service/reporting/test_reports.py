"""Reports say what was found, need nothing else, and take no text for markup."""

import json
import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.commands.display import duration
from service.contracts.benchmarks import Benchmark, BenchmarkResult
from service.contracts.edits import Fact
from service.reporting import plots
from service.reporting.easyedit import easyedit
from service.reporting.figures import (
    all_scores,
    comparison,
    curve,
    figure,
    main_names,
    names_of,
    per_edit,
    times,
    written,
)
from service.reporting.markdown import markdown, plain
from service.reporting.page import page
from service.reporting.svg import clipped
from service.reporting.wording import MOST_FAILURES, failures, setting
from tests.service.benchmarking import RECORDS, benchmark, method_result, summaries

EVIL = '<script>alert("1")</script> | & *x* `'


def result_of(found: Benchmark) -> BenchmarkResult:
    assert found.result is not None
    return found.result


class Reader(HTMLParser):
    """Notes what a page is made of; elements must be closed in order."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("mode", ["single", "sequential"])
def test_a_page_has_its_plots_and_needs_nothing_else(mode: str) -> None:
    found = benchmark(("rome", EVIL), mode=mode, dataset=EVIL)
    text = page(found, result_of(found))
    read = Reader(text)
    assert "script" not in read.tags
    assert not {name for name, _ in read.attributes} & {"src", "href", "onload", "onerror"}
    assert "http" not in text
    assert any(EVIL in each for each in read.texts)
    assert read.tags.count("svg") == (3 if mode == "single" else 8)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60), st.integers(1, 20))
def test_plots_are_sound_whatever_methods_are_called(label: str, methods: int) -> None:
    labels = tuple(f"{label}{at}" for at in range(methods))
    result = result_of(benchmark(labels, mode="sequential"))
    timed = plots.time_plot(result)
    assert timed is not None
    drawn = [
        plots.scores_plot(result),
        plots.tradeoff_plot(result),
        timed[0],
        *(p for _, p in plots.curve_plots(result)),
    ]
    for text in drawn:
        assert text is not None
        root = ET.fromstring(text)  # noqa: S314 - our own
        assert root.attrib["aria-label"]
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for dot in root.iter("circle"):
            assert 0 <= float(dot.attrib["cx"]) <= width
            assert 0 <= float(dot.attrib["cy"]) <= height


def test_a_method_without_scores_is_no_dot_and_no_error() -> None:
    found = benchmark(("rome", "wrong"))
    bare = method_result("wrong", summary=None, scored=0, failed=3, edits=0, perplexity_ratio=None, timings={})
    result = result_of(found)
    result = result.model_copy(update={"methods": (result.methods[0], bare)})
    assert len(list(ET.fromstring(plots.scores_plot(result)).iter("circle"))) == len(main_names(result))  # noqa: S314
    assert "wrong" in page(found, result)
    nothing = result.model_copy(update={"methods": (bare,)})
    assert "<svg" not in page(found, nothing)
    assert markdown(found, nothing)
    assert comparison(nothing)[1][-1] == "3"


def test_records_without_neighbours_have_no_tradeoff() -> None:
    result = result_of(benchmark())
    without = summaries(neighborhood_acc=None, NS=None, S=None)
    method = result.methods[0].model_copy(update={"summary": without})
    assert plots.tradeoff_plot(result.model_copy(update={"methods": (method,)})) is None


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.02), (1.0, 3.0), (0.5, 2000.0)])
def test_perplexity_has_an_axis_around_its_values(values: tuple[float, ...]) -> None:
    marks = plots._decades([math.log10(value) for value in values])
    assert len(marks) >= 2
    assert marks[0] <= math.log10(min(values)) + 1e-9
    assert marks[-1] >= math.log10(max(values)) - 1e-9
    assert len(marks) < 10


def test_markdown_has_whole_tables_and_no_marks_of_others() -> None:
    found = benchmark(("rome", EVIL), mode="sequential")
    lines = markdown(found, result_of(found)).splitlines()
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    assert len([table for table in tables if table]) == 5
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) <= 1
    assert "<script" not in "\n".join(lines).replace("\\<", "")
    assert plain("a\n|b") == "a \\|b"


def test_figures() -> None:
    result = result_of(benchmark(mode="sequential"))
    (method,) = result.methods
    assert names_of(result)[:3] == ["S", "ES", "PS"]
    assert written("EA", figure(method, "EA")) == "87.5 [77.5, 92.5]"
    assert written("EA", figure(method, "EA", before=True)) == "0.0"
    assert written("PA", figure(method, "PA", before=True)) == "–"  # noqa: RUF001 - as in the report
    assert written("generated.fluency", figure(method, "generated.fluency"), interval=False) == "5.5", (
        "bits, no percent"
    )
    assert per_edit(method) == {"value": 5.0, "update": 1.0, "measure": 2.0}
    assert times(result) == [["method", "value", "update", "measure"], ["rome", "5", "1", "2"]]
    assert all_scores(result)[0] == ["score", "rome: before", "rome: after"]
    assert [row[0] for row in curve(method)] == ["records", "10", "20", "30"]
    assert curve(method)[1][1:4] == ["90.0", "80.0", "100.0"]
    assert (clipped("abcdef", 4), clipped("abcd", 4)) == ("abc…", "abcd")


def test_failures_are_named_and_counted() -> None:
    result = result_of(benchmark(("a", "b")))
    assert failures(result)[:2] == ["a, case 9: v_lr: too <high>", "b, case 9: v_lr: too <high>"]
    many = result.model_copy(update={"faults": tuple(map(str, range(40)))})
    assert len(failures(many)) == MOST_FAILURES + 1
    assert failures(many)[-1] == "and 22 more"


def test_what_a_file_lost_is_counted() -> None:
    whole = benchmark()
    assert dict(setting(whole, result_of(whole)))["records"] == "3 of 4 (the first)"
    torn = benchmark(left_out=2)
    result = result_of(torn).model_copy(update={"available": 2})
    assert dict(setting(torn, result))["records"] == "3 of 2 (the first); left out: 3 of 5 in all"


def test_easyedits_shape() -> None:
    result = result_of(benchmark())
    first, second = easyedit(result)
    assert (first["case_id"], second["case_id"]) == (7, 8), "what failed has no metrics"
    assert first.keys() == {"case_id", "requested_rewrite", "time", "pre", "post"}
    fact = RECORDS[0]["facts"][0]  # type: ignore[index]
    assert first["requested_rewrite"]["prompt"] == fact["prompt"]
    assert first["requested_rewrite"]["rephrase_prompt"] == "It is in"
    assert first["requested_rewrite"]["locality"]["neighborhood"] == {
        "prompt": "The Louvre is in",
        "ground_truth": "Paris",
    }
    assert first["post"] == {
        "rewrite_acc": [0.9],
        "rephrase_acc": [0.6],
        "portability": {"reasoning_acc": [0.5]},
        "locality": {"neighborhood_acc": [0.75]},
        "fluency": {"ngram_entropy": 5.5},
    }
    assert first["pre"] == {"rewrite_acc": [0.25], "portability": {}}
    assert {each["method"] for each in easyedit(result_of(benchmark(("a", "b"))))} == {"a", "b"}
    assert json.loads(json.dumps(first)) == first


def test_easyedits_shape_has_a_value_a_question() -> None:
    result = result_of(benchmark())
    record = result.records[0]
    (fact,) = record.record.facts
    groups = {
        "Reasoning": ({"prompt": "Its country is", "answer": "Italy"}, {"prompt": "It is in", "answer": "Europe"})
    }
    changed = {
        **fact.model_dump(),
        "portability": groups,
        "locality": groups,
        "paraphrases": ("It is in", "Find it in"),
    }
    means = {"portability": {"Reasoning_acc": 0.75}, "locality": {"Reasoning_acc": 0.5, "Reasoning_correct": 0.0}}
    each = {
        "rephrase_acc": (1.0, 0.2),
        "neighborhood_acc": (0.75,),
        "portability.Reasoning_acc": (0.5, 1.0),
        "locality.Reasoning_acc": (1.0, 0.0),
    }
    scores = record.outcomes[0].scores
    assert scores is not None

    def entry(**of_each: tuple[float, ...]) -> Any:
        after = scores.facts[0].after
        side = after.model_copy(update={"summary": after.summary.model_copy(update=means), "each": of_each})
        told = scores.model_copy(update={"facts": (scores.facts[0].model_copy(update={"after": side}),)})
        outcome = record.outcomes[0].model_copy(update={"scores": told})
        asked = record.record.model_copy(update={"facts": (Fact.model_validate(changed),)})
        both = record.model_copy(update={"record": asked, "outcomes": (outcome,)})
        return easyedit(result.model_copy(update={"records": (both,)}))[0]

    found = entry(**each)
    assert found["post"] == {
        "rewrite_acc": [0.9],
        "rephrase_acc": [1.0, 0.2],
        "portability": {"Reasoning_acc": [0.5, 1.0]},
        "locality": {"neighborhood_acc": [0.75], "Reasoning_acc": [1.0, 0.0]},
        "fluency": {"ngram_entropy": 5.5},
    }
    assert found["requested_rewrite"]["portability"] == {
        "Reasoning": {"prompt": ["Its country is", "It is in"], "ground_truth": ["Italy", "Europe"]}
    }
    assert found["requested_rewrite"]["rephrase_prompt"] == ["It is in", "Find it in"]
    assert entry()["post"]["portability"] == {"Reasoning_acc": [0.75]}, "older results have means alone"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
