"""Where data sets come from: what is shipped, files and the hub are read, and what cannot be says what to do."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.contracts.edits import contradictions
from service.datasets.sources import SHIPPED, DatasetError, FormError, open_dataset
from tests.service.datasets.records import COUNTERFACT, KNOWEDIT, MQUAKE, ZSRE


def test_the_shipped_facts_are_whole() -> None:
    found = open_dataset(SHIPPED)
    assert found.faults == ()
    assert len(found.records) >= 100
    facts = [fact for record in found.records for fact in record.facts]
    assert len(facts) == len(found.records)
    assert not list(contradictions(facts)), "all of them fit into one batch"
    assert len({(fact.prompt, fact.subject) for fact in facts}) == len(facts)
    for record, fact in zip(found.records, facts, strict=True):
        assert fact.target_true
        assert len(fact.paraphrases) == 2
        assert all(fact.subject.casefold() in prompt.casefold() for prompt in fact.paraphrases)
        assert 2 <= len(fact.neighborhood) <= 4
        assert not any(fact.subject in prompt for prompt in fact.neighborhood)
        assert fact.portability
        assert record.generation_prompts
        assert all(fact.target_new in text for text in record.reference_texts)
    assert sum(len(fact.neighborhood) for fact in facts) > 3.9 * len(facts)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    path.write_text(json.dumps([COUNTERFACT, {**COUNTERFACT, "case_id": None}, 3]), encoding="utf-8")
    found = open_dataset(str(path))
    assert [record.case_id for record in found.records] == [7, 1]
    assert [fault.index for fault in found.faults] == [2]


def test_a_form_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "zsre.json"
    path.write_text(json.dumps([ZSRE]), encoding="utf-8")
    (towards,) = open_dataset(str(path)).records
    (answers,) = open_dataset(str(path), "zsre-answers").records
    assert (towards.facts[0].target_new, answers.facts[0].target_new) == ("Oslo", "Vienna")


SNIPPETS = [{"relation_id": "P19", "target_id": "Q585", "samples": [{"name": "A", "text": "A is of Oslo."}]}]


@pytest.mark.parametrize("values", [[COUNTERFACT], [3, COUNTERFACT]])
def test_counterfacts_snippets_are_read_where_they_lie_beside_it(tmp_path: Path, values: list[Any]) -> None:
    path, beside = tmp_path / "records.json", tmp_path / "attribute_snippets.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert open_dataset(str(path), references=True).records[0].reference_texts == (), "there are none"
    beside.write_text(json.dumps(SNIPPETS), encoding="utf-8")
    assert open_dataset(str(path), references=True).records[0].reference_texts == ("A is of Oslo.",)
    assert open_dataset(str(path), "counterfact", references=True).records[0].reference_texts == ("A is of Oslo.",)
    assert open_dataset(str(path)).records[0].reference_texts == (), "nobody asked for them"
    beside.write_text("[{}]", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"attribute_snippets\.json is not as .+: line 1: relation_id: is required"):
        open_dataset(str(path), references=True)


@pytest.mark.parametrize("value", [ZSRE, KNOWEDIT, MQUAKE])
def test_snippets_are_not_read_for_what_is_not_counterfact(tmp_path: Path, value: dict[str, Any]) -> None:
    path = tmp_path / "records.json"
    path.write_text(json.dumps([value]), encoding="utf-8")
    (tmp_path / "attribute_snippets.json").write_text("no JSON", encoding="utf-8")
    assert open_dataset(str(path), references=True).records


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"cannot be read \(No such file or directory\); give a file, or one of palimpsest, counterfact"),
        (b"[]", "has no record that can be read"),
        (b'[{"prompt": 1}]', "has no record that can be read. The first fault: record 0, line 1: prompt: should be"),
        (b"\n\xff", r"line 2: is not UTF-8; save the file in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "records.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        open_dataset(str(path))


def test_an_unknown_form_is_told_the_known_ones() -> None:
    with pytest.raises(FormError, match="no form csv; take one of own, counterfact"):
        open_dataset(SHIPPED, "csv")


def test_a_form_that_is_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormError, match="palimpsest has the form own, not zsre; leave the form out, or give a file"):
        open_dataset(SHIPPED, "zsre")
    assert open_dataset(SHIPPED, "own") == open_dataset(SHIPPED)
    path = tmp_path / "records.json"
    path.write_text(json.dumps([COUNTERFACT]), encoding="utf-8")
    with pytest.raises(
        FormError, match=r"has no record that can be read as zsre\. The first fault: record 0, line 1: sub"
    ):
        open_dataset(str(path), "zsre")


class Rows(SimpleNamespace):
    """What stands for the library `datasets`, which `make setup` leaves out: rows by split, nulls and all."""

    asked: list[tuple[str, str, bool]]

    def load_dataset(self, path: str, *, split: str, streaming: bool) -> list[dict[str, Any]]:
        self.asked.append((path, split, streaming))
        return [{**COUNTERFACT, "case_id": len(self.asked), "generation_prompts": None}]


def test_splits_of_the_hub_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Rows(asked=[])
    monkeypatch.setitem(sys.modules, "datasets", library)
    found = open_dataset("counterfact")
    assert [record.case_id for record in found.records] == [1, 2]
    assert library.asked == [("azhx/counterfact", "train", True), ("azhx/counterfact", "test", True)]


CONTENT = json.dumps([KNOWEDIT]).encode()


class Hub(BaseHTTPRequestHandler):
    """A hub with one file, as the client library asks for it."""

    def do_HEAD(self) -> None:
        there = self.path == "/datasets/us/known/resolve/main/a%20b/c.json"
        self.send_response(200 if there else 404)
        headers = {"ETag": '"e"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(CONTENT))}
        for name, value in headers.items() if there else ():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What makes the client library ask a hub on this machine: it takes its settings when it is imported."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    yield {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    server.shutdown()
    thread.join()
    server.server_close()


PROGRAM = """
import sys
from service.datasets import sources
sources.HUB = {"ours": sources.HubSource("us/known", sys.argv[1])}
try:
    print(sources.open_dataset("ours").records[0].facts[0].target_new)
except sources.DatasetError as error:
    print(error)
"""


@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("a b/c.json", "Oslo"),
        ("gone.json", "ours (us/known) cannot be had from the Hugging Face hub ("),
    ],
)
def test_a_file_of_the_hub_is_downloaded(hub: dict[str, str], file: str, words: str) -> None:
    command = [sys.executable, "-c", PROGRAM, file]
    answer = subprocess.run(
        command, env={**os.environ, **hub}, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.stdout.startswith(words), answer


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetError, match=r"pip install 'palimpsest\[hub\]', or give a file"):
        open_dataset("mquake")
