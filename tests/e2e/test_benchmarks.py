"""Benchmarks with real processes: killed in the middle, taken up again, cancelled; the head never moves."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import cli
from service.contracts.benchmarks import Benchmark, BenchmarkRequest
from service.contracts.edits import EditStatus
from service.contracts.jobs import JobStatus
from service.easyedit import BaseEditor, HyperParams
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place, until
from tests.service.datasets.records import COUNTERFACT

RECORDS = [
    {"case_id": number, "facts": [{**FACT, "prompt": f"{number}. {FACT['prompt']}", "paraphrases": ["Messi plays"]}]}
    for number in range(12)
]
STEPS = {"v_num_grad_steps": 60}
ASKED: dict[str, Any] = {"records": RECORDS, "methods": [{"method": "rome", "hparams": STEPS}]}
SEQUENCE: dict[str, Any] = {
    "records": RECORDS,
    "methods": [{"method": "memit", "hparams": STEPS}],
    "mode": "sequential",
    "batch_size": 2,
    "checkpoints": 3,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("benchmarks"), _free_port) as opened:
        yield opened


def bench(place: Place, **body: Any) -> Benchmark:
    return place.client.benchmarks.submit(BenchmarkRequest.model_validate(body))


def ended(place: Place, benchmark_id: str) -> Benchmark:
    list(place.client.benchmarks.events(benchmark_id))
    return place.client.benchmarks.get(benchmark_id)


def at_record(place: Place, benchmark_id: str, number: int) -> None:
    """Waits until so many records have been edited."""

    def there() -> bool:
        benchmark = place.client.benchmarks.get(benchmark_id)
        assert not benchmark.status.ended, benchmark.problem
        return benchmark.progress is not None and benchmark.progress.step >= number

    until(there, place.says)


def scores(benchmark: Benchmark) -> Any:
    assert benchmark.result is not None, benchmark.problem
    return [[outcome.scores for outcome in record.outcomes] for record in benchmark.result.records]


@pytest.mark.parametrize("asked", [ASKED, SEQUENCE])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_goes_leaves_its_benchmark_to_the_next_where_it_was(
    place: Place, asked: dict[str, Any], number: int
) -> None:
    place.hire()
    whole = ended(place, bench(place, **asked).id)
    before, says = place.checksums(), place.compare()
    blobs = sorted(place.blobs.glob("*"))
    benchmark = bench(place, **asked)
    at_record(place, benchmark.id, 6)
    worker = place.hire()
    worker.signal(number)
    assert worker.ended() == (0 if number == signal.SIGTERM else -number)
    journal = place.root / "data" / "benchmarks" / "tiny-llama" / benchmark.id / "results.jsonl"
    lines = journal.read_bytes()
    assert lines.count(b"\n") >= 3
    place.hire()
    found = ended(place, benchmark.id)
    assert (found.status, found.attempts, found.revision) == (JobStatus.COMPLETED, 2 - (number == signal.SIGTERM), 0)
    assert scores(found) == scores(whole)
    assert journal.read_bytes().startswith(lines[: lines.rfind(b"\n") + 1]), "what was found is not found again"
    assert place.checksums() == before
    assert sorted(place.blobs.glob("*")) == blobs
    assert place.compare() == says


def test_readers_and_rollbacks_go_on_and_it_is_cancelled(place: Place) -> None:
    place.hire()
    edit = place.ended(place.submit().id)
    assert edit.status is EditStatus.APPLIED
    benchmark = bench(place, **{**ASKED, "methods": [{"method": "rome", "hparams": {"v_num_grad_steps": 900}}]})
    at_record(place, benchmark.id, 0)
    queued = bench(place, **ASKED, revision="head")
    says = place.compare()
    head = place.client.rollback(0).revision
    assert place.client.benchmarks.get(benchmark.id).status is JobStatus.RUNNING
    assert place.client.benchmarks.cancel(benchmark.id).status is JobStatus.RUNNING
    assert ended(place, benchmark.id).status is JobStatus.CANCELLED
    found = ended(place, queued.id)
    assert (found.status, found.revision) == (JobStatus.COMPLETED, head), "the head when its turn came"
    assert place.compare(after=edit.revision) == says
    assert place.client.model().revision == head


def test_a_file_of_counterfact_is_compared_with_its_references_and_what_it_lost_is_told(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.hire()
    long = {**COUNTERFACT, "case_id": 1, "paraphrase_prompts": ["Messi " * 200]}
    good = [{**COUNTERFACT, "case_id": number} for number in (2, 3, 4)]
    (tmp_path / "counterfact.json").write_text(json.dumps([long, {"requested_rewrite": {}}, *good]))
    entry = {"relation_id": "P19", "target_id": "Q585", "samples": [{"name": "A", "text": "A came from Oslo."}]}
    (tmp_path / "attribute_snippets.json").write_text(json.dumps([entry]))
    where = ("--dataset", str(tmp_path / "counterfact.json"), "--out", str(tmp_path / "out"))
    what = ("--n", "2", "--generation", "--hparam", "rome.v_num_grad_steps=2", "--server", place.client.server)
    monkeypatch.setattr(sys, "argv", ["palimpsest", "bench", "--json", *where, *what])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    result = Benchmark.model_validate_json(capsys.readouterr().out).result
    assert result is not None
    assert [record.record.case_id for record in result.records] == [2, 3], "as many as were asked for"
    summary = result.methods[0].summary
    assert summary is not None
    assert summary.after.generated is not None
    assert summary.after.generated.RS is not None
    lost, too_long = result.faults[0], result.faults[-1]
    assert lost.startswith("record 1, line 1: requested_rewrite.prompt: is required")
    assert too_long.startswith("case 1: facts[0].paraphrases[0]: needs ")
    report = (tmp_path / "out" / "report.md").read_text()
    assert "- records: 2 of 3 (the first); left out: 2 of 5 in all" in report
    assert "left out: record 1, line 1" in report


@pytest.mark.parametrize("keep", [False, True])
def test_easyedits_call_edits_the_model(place: Place, keep: bool) -> None:
    place.hire()
    before = place.client.model()
    editor = BaseEditor.from_hparams(HyperParams("ROME", values={"v_num_grad_steps": 5}), place.client)
    metrics, edited_model, _ = editor.edit(
        prompts=[FACT["prompt"], "Michael Jordan plays"],
        ground_truth=["football", "chess"],
        target_new=["basketball", "football"],
        subject=["Lionel Messi", "Michael Jordan"],
        locality_inputs={"neighborhood": {"prompt": ["The city", "He plays"], "ground_truth": ["Paris", "football"]}},
        keep_original_weight=keep,
        test_generation=keep,
    )
    assert [each["requested_rewrite"]["subject"] for each in metrics] == ["Lionel Messi", "Michael Jordan"]
    shown = {"rewrite_acc", "portability", "locality", *(["fluency"] if keep else [])}
    assert all(each["post"].keys() == shown and ("fluency" in each["pre"]) is keep for each in metrics)
    # kept, each fact is edited alone: the head goes back between the two, and in the end
    assert edited_model.revision == before.revision + 2 + keep
    said = place.compare(after=edited_model.revision)
    assert edited_model.generate(FACT["prompt"], max_new_tokens=8) == [FACT["prompt"] + said.after.text]
    head = place.client.model()
    assert (head.revision, head.checksum == before.checksum) == (before.revision + 2 + 2 * keep, keep)
