"""Benchmarks with real processes: killed in the middle, taken up again, cancelled; the head never moves."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from service.contracts.benchmarks import Benchmark, BenchmarkRequest
from service.contracts.edits import EditStatus
from service.contracts.jobs import JobStatus
from service.easyedit import BaseEditor, HyperParams
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place, until

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
    )
    assert [each["requested_rewrite"]["subject"] for each in metrics] == ["Lionel Messi", "Michael Jordan"]
    assert all(each["post"].keys() == {"rewrite_acc", "portability", "locality"} for each in metrics)
    assert edited_model.revision == before.revision + 2
    said = place.compare(after=edited_model.revision)
    assert edited_model.generate(FACT["prompt"], max_new_tokens=8) == [FACT["prompt"] + said.after.text]
    head = place.client.model()
    assert (head.revision, head.checksum == before.checksum) == (before.revision + 2 + keep, keep)
