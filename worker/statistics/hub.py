"""Text from the Hugging Face hub, streamed: nothing is downloaded that is not read."""

import queue
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from worker.errors import EditError

DATASETS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "wikipedia": ("wikimedia/wikipedia", "20231101.en"),
        "wikitext": ("Salesforce/wikitext", "wikitext-103-raw-v1"),
    }
)
"""The published code's two names, and where their text is today: the hub no longer runs the scripts they named."""

MOST_CHARACTERS = 4096
"""Of one document, about 1000 tokens, as the published code cuts it to the model's context: many, rather than long."""

SEED, BUFFER = 1, 10_000
"""Of the shuffling: documents come in the dump's order, the oldest articles first."""

AHEAD = 256
"""Documents fetched before they are asked for."""

PATIENCE = 0.05
"""Seconds that a step waits for a document; readers are served before the next one."""


def documents(dataset: str) -> Iterator[str | None]:
    """The documents of a dataset, shuffled by a fixed seed, each ended by an empty line; None while one is awaited.

    They are fetched by a thread of their own, so that the network never holds up the model. EditError if the dataset
    cannot be had.
    """
    fetched: queue.Queue[str | Exception | None] = queue.Queue(AHEAD)
    closed = threading.Event()
    thread = threading.Thread(target=_fetch, args=(dataset, fetched, closed), name="documents", daemon=True)
    thread.start()
    try:
        while True:
            try:
                got = fetched.get(timeout=PATIENCE)
            except queue.Empty:
                yield None
                continue
            if got is None:
                return
            if isinstance(got, Exception):
                raise _unavailable(dataset, got) from got
            yield got
    finally:
        closed.set()


def _fetch(dataset: str, fetched: "queue.Queue[str | Exception | None]", closed: threading.Event) -> None:
    try:
        for document in _stream(dataset):
            text = document["text"].strip()[:MOST_CHARACTERS]
            if text and not _put(fetched, closed, text + "\n\n"):
                return
        _put(fetched, closed, None)
    except Exception as error:  # noqa: BLE001 - whatever the library or the network raises, the edit is to say it
        _put(fetched, closed, error)


def _put(fetched: "queue.Queue[str | Exception | None]", closed: threading.Event, item: str | Exception | None) -> bool:
    while not closed.is_set():
        try:
            fetched.put(item, timeout=PATIENCE)
        except queue.Full:
            continue
        return True
    return False


def _stream(dataset: str) -> Any:
    from datasets import load_dataset  # noqa: PLC0415 - an optional dependency, and slow to import

    path, name = DATASETS[dataset]
    return load_dataset(path, name, split="train", streaming=True).shuffle(seed=SEED, buffer_size=BUFFER)


def _unavailable(dataset: str, error: Exception) -> EditError:
    if isinstance(error, ImportError):
        return EditError(
            "no-datasets",
            "hparams.mom2_dataset",
            f"{dataset} needs the package datasets, which the worker's host lacks: pip install 'palimpsest[hub]'; or "
            "use 'self'",
        )
    return EditError(
        "dataset-unavailable",
        "hparams.mom2_dataset",
        f"{dataset} cannot be streamed from the Hugging Face hub ({type(error).__name__}); give the worker's host "
        "access to it or published files (PALIMPSEST_STATS_DIR), or use 'self'",
    )
