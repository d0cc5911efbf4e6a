"""Where a data set comes from: the project's own facts, a file, or by name from the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.datasets.forms import FORMS, form_of
from service.datasets.reading import Dataset, read_rows, read_text
from service.datasets.snippets import Snippets, parse_snippets
from service.items import EncodingError, decode, items

SHIPPED = "palimpsest"
"""The facts that the project wrote itself and smollm2-135m knows."""

SNIPPETS = "attribute_snippets.json"
"""What CounterFact's authors call the file of its reference texts, which they publish beside it."""


class DatasetError(Exception):
    """No record can be had from there; the message says what to do."""


class FormError(DatasetError):
    """The form that was asked for is not that of the data set."""


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


def open_dataset(source: str, form: str | None = None, *, references: bool = False) -> Dataset:
    """The data set of a name or a path; DatasetError if it has no record.

    form: how its records are written, where they are not to show it themselves; references: with the texts of the
    attribute_snippets.json that lies beside a file of CounterFact, which takes a while to read. No hub has that file.
    """
    if form is not None and form not in FORMS:
        raise FormError(f"There is no form {form}; take one of {', '.join(FORMS)}.")
    found = _found(source, form, references=references)
    if not found.records:
        first = f" The first fault: {found.faults[0]}." if found.faults else ""
        if form is None:
            raise DatasetError(f"{source} has no record that can be read.{first}")
        raise FormError(f"{source} has no record that can be read as {form}.{first}")
    return found


def _found(source: str, form: str | None, *, references: bool) -> Dataset:
    if source == SHIPPED:
        if form not in (None, "own"):
            raise FormError(f"{SHIPPED} has the form own, not {form}; leave the form out, or give a file.")
        return read_text(files("service.datasets").joinpath("palimpsest.jsonl").read_text(encoding="utf-8"), "own")
    if source in HUB and not Path(source).exists():
        return _from_hub(source, HUB[source], form)
    text = _file(source)
    beside = Path(source).parent / SNIPPETS
    wanted = references and (form or _form_shown(text)) == "counterfact" and beside.is_file()
    return read_text(text, form, _snippets(beside) if wanted else None)


def _form_shown(text: str) -> str | None:
    """The form of the first record that shows one."""
    return next((form for _, value in items(text) if (form := form_of(value)) is not None), None)


def _snippets(path: Path) -> Snippets:
    try:
        return parse_snippets(_file(str(path)))
    except ValueError as error:
        raise DatasetError(
            f"{path} is not as CounterFact's authors publish it: {error}. Mend it, or move it away."
        ) from None


def _file(source: str) -> str:
    path = Path(source)
    try:
        return decode(path.read_bytes())
    except EncodingError as error:
        raise DatasetError(f"{source}, line {error.line}: {error}.") from None
    except OSError as error:
        names = ", ".join((SHIPPED, *HUB))
        raise DatasetError(f"{source} cannot be read ({error.strerror}); give a file, or one of {names}.") from error


def _from_hub(name: str, source: HubSource, form: str | None) -> Dataset:
    try:
        if source.file is not None:
            return read_text(_downloaded(source.repository, source.file), form)
        return read_rows(_streamed(source), form)
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
