"""Data sets that a command is given: read for it, and what is left out of them told."""

from collections.abc import Sequence

import typer
from rich.console import Console

from service.contracts.edits import Fact
from service.datasets.reading import Dataset
from service.datasets.sources import DatasetError, FormError, open_dataset

MOST_SHOWN = 20
"""Faults that are shown."""


def read_dataset(source: str, option: str, form: str | None = None, *, references: bool = False) -> Dataset:
    """As `open_dataset`; raises BadParameter of the option that is to be mended."""
    try:
        return open_dataset(source, form, references=references)
    except DatasetError as error:
        raise typer.BadParameter(str(error), param_hint="--form" if isinstance(error, FormError) else option) from error


def read_facts(source: str, option: str) -> tuple[Fact, ...]:
    """Those of all records that are well; what is wrong with others is told. Raises as `read_dataset` does."""
    found = read_dataset(source, option)
    tell_left_out(list(map(str, found.faults)))
    return tuple(fact for record in found.records for fact in record.facts)


def tell_left_out(faults: Sequence[str]) -> None:
    """Say on standard error why records are left out."""
    console = Console(stderr=True)
    for fault in faults[:MOST_SHOWN]:
        console.print(f"left out: {fault}", style="yellow", markup=False, soft_wrap=True)
    if len(faults) > MOST_SHOWN:
        console.print(f"and {len(faults) - MOST_SHOWN} more", style="yellow")
