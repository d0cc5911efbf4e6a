"""The rows that a fact's value is optimised over, and what each position read in them is for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worker.editing.context import FactLike
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row


@dataclass(frozen=True)
class FactRows:
    """One fact's rows: one a template, in order; then, where no template row begins like it, the KL row.

    kl_row: the row at whose anchor the KL is read.
    """

    rows: tuple[Row, ...]
    templates: int
    kl_row: int

    @property
    def column(self) -> int:
        """Positions before the anchors."""
        return max(row.anchor for row in self.rows)

    @property
    def width(self) -> int:
        """Positions from the anchors on."""
        return max(len(row.ids) - row.anchor for row in self.rows)


def fact_rows(loaded: LoadedModel, fact: FactLike, prefixes: Sequence[str]) -> FactRows:
    """prefix + prompt + target for every prefix, and "{subject} is a" up to the subject's last token.

    Raises EditError if a row is longer than the model's context.
    """
    tokenizer = loaded.tokenizer
    rows = [target_row(tokenizer, fact.prompt, fact.target_new, fact.subject, prefix) for prefix in prefixes]
    check_length(loaded, rows)
    # What follows the anchor cannot influence it, so a row that begins with the same tokens serves as well.
    kl = subject_row(tokenizer, f"{fact.subject} is a", fact.subject)
    same = [index for index, row in enumerate(rows) if row.ids[: row.anchor + 1] == kl.ids]
    if not same:
        return FactRows((*rows, kl), len(rows), len(rows))
    rows[same[0]] = replace(rows[same[0]], reads=(kl.anchor, *rows[same[0]].reads))
    return FactRows(tuple(rows), len(rows), same[0])


def check_length(loaded: LoadedModel, rows: Sequence[Row]) -> None:
    """Raises EditError if one of a fact's rows is longer than the model's context."""
    if (longest := max(len(row.ids) for row in rows)) > loaded.context_length:
        detail = f"needs {longest} tokens with what is added to it; the model takes {loaded.context_length}"
        raise EditError("too-long", "prompt", detail)


@dataclass(frozen=True)
class Reads:
    """What the M reads of many facts' rows are for, row after row.

    fact, row: [M] whose they are; token: [M] the target token, -1 where the KL is read; share: [M] the weight of a
    read's NLL in its fact's loss, the mean over its rows of each row's mean. facts: how many.
    """

    fact: Tensor
    row: Tensor
    token: Tensor
    share: Tensor
    facts: int

    @property
    def is_kl(self) -> Tensor:
        """[M], whether the KL is read there."""
        return self.token < 0

    def of(self, facts: Tensor) -> Tensor:
        """[M], whether a read belongs to one of these facts."""
        return torch.isin(self.fact, facts)


def reads_of(batch: Sequence[FactRows], device: torch.device) -> Reads:
    """The reads of a batch's rows, in the order in which a suffix pass gives them."""
    found: list[tuple[int, int, int, float]] = []
    at = 0
    for index, fact in enumerate(batch):
        for place, row in enumerate(fact.rows):
            if place == fact.kl_row:
                found.append((index, at, -1, 0.0))
            found += [(index, at, token, 1.0 / (fact.templates * len(row.targets))) for token in row.targets]
            at += 1
    facts, rows, tokens, shares = zip(*found, strict=True)
    return Reads(
        fact=torch.tensor(facts, device=device),
        row=torch.tensor(rows, device=device),
        token=torch.tensor(tokens, device=device),
        share=torch.tensor(shares, dtype=torch.float64, device=device),
        facts=len(batch),
    )
