"""The command that compares methods, and the client's calls behind it, against the running API."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from service.cli import app
from service.client import Palimpsest
from service.commands import benching
from service.contracts.benchmarks import Benchmark, BenchmarkRequest, Mode
from service.contracts.jobs import JobStatus
from tests.service.acting import acting
from tests.service.benchmarking import BODY, RECORDS, benchmarks_of, carry_out
from tests.service.conftest import Run
from tests.service.datasets.records import COUNTERFACT
from tests.service.stand_in import StandIn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four records, of which one is damaged."""
    path = tmp_path / "mine.jsonl"
    own = [{**record["facts"][0], "reference_texts": ["A text."]} for record in RECORDS]  # type: ignore[index]
    lines = [*own, {"prompt": "Rome is in", "target_new": "Spain"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_bench_compares_methods(ask: Run, worker: StandIn) -> None:
    with acting(worker, lambda benchmark_id: carry_out(worker, benchmark_id), benchmarks_of(worker)):
        code, output, _ = ask("bench", "--method", "rome", "--method", "rome", "--hparam", "rome.v_lr=0.25", "--n", "3")
    assert code == 0
    for words in (
        "3 records of palimpsest, single; percent",
        "87.5 [77.5, 92.5]",
        "x 1.250",
        "rome, case 9: v_lr: too <high>",
        "left out: case 99: too long",
        "is completed, on r0",
    ):
        assert words in output, words
    request = benchmarks_of(worker).newest(None, 1)[0][0].request
    assert [choice.hparams for choice in request.methods] == [{"v_lr": 0.25}] * 2
    assert (request.dataset, request.records) == ("palimpsest", ())


def test_a_file_is_read_here_and_its_faults_are_told(ask: Run, worker: StandIn, file: Path) -> None:
    with acting(worker, lambda benchmark_id: carry_out(worker, benchmark_id), benchmarks_of(worker)):
        code, output, errors = ask(
            *("bench", "--dataset", str(file), "--n", "2", "--mode", "sequential", "--batch-size", "2", "--json")
        )
    found = Benchmark.model_validate_json(output)
    assert code == 0
    assert "left out: record 3, line 4: subject" in errors
    assert (found.request.dataset, found.request.mode, found.request.batch_size) == ("mine.jsonl", Mode.SEQUENTIAL, 2)
    assert [record.case_id for record in found.request.records] == [0, 1, 2], "the worker knows which are too long"
    assert found.request.left_out == 1
    assert found.request.faults == ("record 3, line 4: subject: is required; add it",)
    assert all(not record.reference_texts for record in found.request.records), "nothing is generated"


@pytest.mark.parametrize(("n", "sent"), [("1", 2), ("3", 3)])
def test_behind_the_first_n_no_more_are_sent_than_fit_into_a_request(
    ask: Run, worker: StandIn, file: Path, monkeypatch: pytest.MonkeyPatch, n: str, sent: int
) -> None:
    size = len(json.dumps(RECORDS[0]["facts"]))
    monkeypatch.setattr(benching, "MOST_SENT", 2.5 * size)
    code, output, errors = ask("bench", "--dataset", str(file), "--n", n, "--no-wait", "--json")
    assert code == 0
    request = benchmarks_of(worker).get(Benchmark.model_validate_json(output).id).request
    assert (len(request.records), request.left_out) == (sent, 4 - sent)
    unsent = "the last 1 records: no more can be sent at once"
    assert (unsent in request.faults, unsent in errors) == (sent == 2, sent == 2)


def test_many_faults_and_long_ones_are_cut(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    good = RECORDS[0]["facts"][0]  # type: ignore[index]
    path.write_text("\n".join([json.dumps(good), *['{"prompt": 1}'] * 200]))
    code, output, errors = ask("bench", "--dataset", str(path), "--no-wait", "--json")
    assert (code, "and 580 more" in errors) == (0, True)
    request = benchmarks_of(worker).get(Benchmark.model_validate_json(output).id).request
    assert (len(request.records), request.left_out, len(request.faults)) == (1, 200, 100)


def test_counterfacts_references_are_sent_where_something_is_said_freely(
    ask: Run, worker: StandIn, tmp_path: Path
) -> None:
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps([COUNTERFACT]))
    entry = {"relation_id": "P19", "target_id": "Q585", "samples": [{"name": "A", "text": "A is of Oslo."}]}
    (tmp_path / "attribute_snippets.json").write_text(json.dumps([entry]))
    for options, texts in (((), ()), (("--generation",), ("A is of Oslo.",))):
        code, output, _ = ask("bench", "--dataset", str(path), "--no-wait", "--json", *options)
        assert code == 0
        (record,) = benchmarks_of(worker).get(Benchmark.model_validate_json(output).id).request.records
        assert record.reference_texts == texts


def test_all_records_are_sent_where_the_model_is_to_choose(ask: Run, worker: StandIn, file: Path) -> None:
    for options in (("--seed", "1"), ("--known-only",), ("--likelier-only", "--generation")):
        code, output, _ = ask("bench", "--dataset", str(file), "--n", "1", "--no-wait", "--json", *options)
        assert code == 0
        whole = benchmarks_of(worker).get(Benchmark.model_validate_json(output).id).request
        assert len(whole.records) == 3
        assert bool(whole.records[0].reference_texts) is ("--generation" in options)


def test_out_has_every_report(ask: Run, worker: StandIn, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report"
    with acting(worker, lambda benchmark_id: carry_out(worker, benchmark_id), benchmarks_of(worker)):
        code, output, _ = ask("bench", "--out", str(out))
    assert code == 0
    assert f"its report is in {out}" in output
    assert sorted(path.name for path in out.iterdir()) == ["easyedit.json", "report.html", "report.json", "report.md"]
    assert json.loads((out / "easyedit.json").read_text())[0]["case_id"] == 7


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--dataset", "/nowhere/facts.json"), 2, "cannot be read"),
        (("--form", "zsre"), 2, "Invalid value for --form: palimpsest has the form own, not zsre"),
        (("--form", "csv"), 2, "Invalid value for --form: There is no form csv"),
        (("--checkpoints", "5"), 2, "Invalid value for --checkpoints: has no effect with --mode single"),
        (("--checkpoints", "2", "--mode", "batch"), 2, "has no effect with --mode batch; take sequential"),
        (("--method", "romme"), 2, "is not a method of this worker"),
        (("--hparam", "memit.v_lr=1"), 2, "must be METHOD.NAME=VALUE, of rome"),
        (("--hparam", "v_lr=1"), 2, "must be METHOD.NAME=VALUE"),
        (("--batch-size", "2"), 2, "must be 1 in mode single"),
        (("--revision", "r7"), 4, "There is no revision r7"),
        (("--out", "x", "--no-wait"), 2, "so wait for it"),
    ],
)
def test_what_cannot_be_compared_is_told(ask: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended, _, errors = ask("bench", *arguments)
    assert ended == code
    assert words in " ".join(errors.replace("│", " ").split())


def test_checkpoints_are_of_a_sequence(ask: Run, worker: StandIn) -> None:
    code, output, _ = ask("bench", "--checkpoints", "2", "--mode", "sequential", "--no-wait", "--json")
    assert (code, Benchmark.model_validate_json(output).request.checkpoints) == (0, 2)
    assert len(benchmarks_of(worker).newest(None, 5)[0]) == 1


def test_every_option_is_in_the_documentation() -> None:
    command: Any = typer.main.get_command(app)
    options = [option.opts[0] for option in command.commands["bench"].params]
    text = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    told = [name for row in text.splitlines() if row.startswith("| `--") for name in row.split("|")[1].split("`")[1::2]]
    missing = {name for name in options if not any(words.split()[0] == name for words in told)}
    assert missing == {"--json", "--server"}, "which all commands have"


def test_one_that_is_cancelled_is_an_error(ask: Run, worker: StandIn) -> None:
    benchmarks = benchmarks_of(worker)
    with acting(worker, lambda benchmark_id: benchmarks.end_as(benchmark_id, "cancelled"), benchmarks):
        code, output, _ = ask("bench")
    assert (code, "is cancelled" in output) == (1, True)


def test_the_client_finds_lists_and_cancels(server_url: str, worker: StandIn) -> None:
    with Palimpsest(server_url) as client:
        first = client.benchmarks.submit(BenchmarkRequest.model_validate(BODY), idempotency_key="k")
        assert client.benchmarks.submit(BenchmarkRequest.model_validate(BODY), idempotency_key="k").id == first.id
        assert client.benchmarks.cancel(first.id).status is JobStatus.CANCELLED
        second = client.benchmarks.submit(BenchmarkRequest.model_validate(BODY))
        found = carry_out(worker, second.id)
        assert client.benchmarks.get(second.id).result == found
        assert [each.id for each in client.benchmarks.page(limit=5).benchmarks] == [second.id, first.id]
        assert [each.status for each in client.benchmarks.events(second.id)] == [JobStatus.COMPLETED]
        assert client.benchmarks.report(second.id, "md").startswith(b"# rome on mine")
