"""Where a data set comes from: the project's own facts, a file, or by name from the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.datasets.forms import FORMS
from service.datasets.reading import Dataset, read_rows, read_text
from service.datasets.snippets import Snippets, parse_snippets
from service.items import EncodingError, decode

SHIPPED = "palimpsest"
"""The facts that the project wrote itself and smollm2-135m knows."""


class DatasetError(Exception):
    """No record can be had from there; the message says what to do."""


@dataclass(frozen=True)
class HubSource:
    """A data set on the hub: one of its files, or else the splits that its viewer has."""

    repository: str
    file: str | None = None
    splits: tuple[str, ...] = ()


HUB: Mapping[str, HubSource] = MappingProxyType(
    {
        "counterfact": HubSource("azhx/counterfact", splits=("train", "test")),
        "knowedit-zsre": HubSource("zjunlp/KnowEdit", "benchmark/ZsRE/ZsRE-test-all.json"),
        "knowedit-counterfact": HubSource("zjunlp/KnowEdit", "benchmark/wiki_counterfact/test_cf.json"),
        "knowedit-recent": HubSource("zjunlp/KnowEdit", "benchmark/wiki_recent/recent_test.json"),
        "knowedit-wikibio": HubSource("zjunlp/KnowEdit", "benchmark/WikiBio/wikibio-test-all.json"),
        "mquake": HubSource("henryzhongsc/MQuAKE-Remastered", splits=("CF3k",)),
    }
)
"""Short names. zsRE in MEND's form and known_1000 are on no hub: give their files."""


def open_dataset(source: str, form: str | None = None, snippets: str | None = None) -> Dataset:
    """The data set of a name or a path; DatasetError if it has no record.

    form: how its records are written, where they are not to show it themselves; snippets: the path of CounterFact's
    attribute_snippets.json.
    """
    if form is not None and form not in FORMS:
        raise DatasetError(f"There is no form {form}; take one of {', '.join(FORMS)}.")
    found = _found(source, form, None if snippets is None else _snippets(snippets))
    if not found.records:
        first = f" The first fault: {found.faults[0]}." if found.faults else ""
        raise DatasetError(f"{source} has no record that can be read.{first}")
    return found


def _found(source: str, form: str | None, snippets: Snippets | None) -> Dataset:
    if source == SHIPPED:
        return read_text(files("service.datasets").joinpath("palimpsest.jsonl").read_text(encoding="utf-8"), "own")
    if source in HUB and not Path(source).exists():
        return _from_hub(source, HUB[source], form, snippets)
    return read_text(_file(source), form, snippets)


def _snippets(path: str) -> Snippets:
    try:
        return parse_snippets(_file(path))
    except ValueError as error:
        raise DatasetError(f"{path} is not attribute_snippets.json: {error}.") from None


def _file(source: str) -> str:
    path = Path(source)
    try:
        return decode(path.read_bytes())
    except EncodingError as error:
        raise DatasetError(f"{source}, line {error.line}: {error}.") from None
    except OSError as error:
        names = ", ".join((SHIPPED, *HUB))
        raise DatasetError(f"{source} cannot be read ({error.strerror}); give a file, or one of {names}.") from error


def _from_hub(name: str, source: HubSource, form: str | None, snippets: Snippets | None) -> Dataset:
    try:
        if source.file is not None:
            return read_text(_downloaded(source.repository, source.file), form, snippets)
        return read_rows(_streamed(source), form, snippets)
    except ImportError as error:
        raise DatasetError(
            f"{name} needs the hub's packages: pip install 'palimpsest[hub]', or give a file."
        ) from error
    except Exception as error:
        raise DatasetError(
            f"{name} ({source.repository}) cannot be had from the Hugging Face hub ({type(error).__name__}); give this "
            "host access to it, or give a file."
        ) from error


def _downloaded(repository: str, file: str) -> str:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - an optional dependency

    return _file(hf_hub_download(repository, file, repo_type="dataset"))


def _streamed(source: HubSource) -> Iterator[Any]:
    from datasets import load_dataset  # noqa: PLC0415 - an optional dependency, and slow to import

    splits = (load_dataset(source.repository, split=split, streaming=True) for split in source.splits)
    return chain.from_iterable(splits)
