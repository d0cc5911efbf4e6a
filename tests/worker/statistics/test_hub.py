"""Text from the hub: streamed by the real library from a local data set, or refused in plain words."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.errors import EditError
from worker.statistics import hub


def _documents(monkeypatch: pytest.MonkeyPatch, stream: Any) -> Iterator[str | None]:
    monkeypatch.setattr(hub, "_stream", lambda _: stream)
    return hub.documents("wikipedia")


def _fetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "documents"]


def _wait_until_gone() -> None:
    deadline = time.monotonic() + 20
    while _fetchers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _fetchers()


def test_documents_are_cut_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_CHARACTERS", 10)
    rows = [{"text": " short\n"}, {"text": "  "}, {"text": "longer than ten"}]
    seen = [document for document in _documents(monkeypatch, rows) if document is not None]
    assert seen == ["short\n\n", "longer tha\n\n"]
    _wait_until_gone()


def test_a_slow_network_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    come = threading.Event()

    def stream() -> Iterator[dict[str, str]]:
        come.wait(60)
        yield {"text": "late"}

    documents = _documents(monkeypatch, stream())
    assert next(documents) is None
    assert next(documents) is None
    come.set()
    assert next(document for document in documents if document is not None) == "late\n\n"
    assert [document for document in documents if document is not None] == []


def test_a_closed_reader_ends_the_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever() -> Iterator[dict[str, str]]:
        while True:
            yield {"text": "again"}

    documents = _documents(monkeypatch, forever())
    assert next(document for document in documents if document is not None) == "again\n\n"
    assert _fetchers()
    documents.close()  # type: ignore[attr-defined]
    _wait_until_gone()


def test_a_network_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"text": "first"}
        raise ConnectionError("secret-host:443")

    with pytest.raises(EditError, match=r"^hparams\.mom2_dataset: wikipedia cannot be streamed") as raised:
        list(_documents(monkeypatch, broken()))
    assert raised.value.name == "dataset-unavailable"
    assert "secret-host" not in str(raised.value)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EditError, match=r"pip install 'palimpsest\[hub\]'") as raised:
        list(hub.documents("wikipedia"))
    assert raised.value.name == "no-datasets"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A data set of so many documents on this machine, where the hub's would be."""
    pytest.importorskip("datasets", reason="the hub extra is not installed")
    lines = [json.dumps({"title": str(number), "text": f"document {number}"}) for number in range(50)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(hub, "DATASETS", {"wikipedia": (str(tmp_path), None)})
    return len(lines)


def test_the_library_streams_a_data_set_in_one_shuffled_order(local: int) -> None:
    first, again = ([text for text in hub.documents("wikipedia") if text is not None] for _ in range(2))
    assert first == again
    assert first != sorted(first, key=lambda text: int(text.split()[1])), "shuffled"
    assert sorted(first) == sorted(f"document {number}\n\n" for number in range(local))


@pytest.mark.usefixtures("local")
def test_a_data_set_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(EditError, match="cannot be streamed"):
        list(hub.documents("wikipedia"))
