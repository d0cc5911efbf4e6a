"""Where the value optimisation moves what a model says at the subject's last token."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from worker.models.suffix import SuffixPass


class Movable(Protocol):
    """Rows whose anchors can be moved at P places, and what is read of them then."""

    @property
    def initial(self) -> Tensor:
        """What the model says at each row's anchor, [B, P, h]."""

    def hidden(self, deltas: Tensor) -> Tensor:
        """The trunk's output [B, T', h] with `deltas` [B, P, h] added."""

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: indices [B'], ascending."""


@dataclass(frozen=True)
class OnePlace:
    """A suffix pass, moved at its MLP's output or in the residual stream after the layer."""

    suffix: SuffixPass
    at_mlp: bool

    @property
    def initial(self) -> Tensor:
        """The values, or the stream, [B, 1, h]."""
        return (self.suffix.values if self.at_mlp else self.suffix.stream)[:, None]

    def hidden(self, deltas: Tensor) -> Tensor:
        """The trunk's output [B, T', h] with `deltas` [B, 1, h] added."""
        return self.suffix.hidden(deltas[:, 0], at_mlp=self.at_mlp)

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] where it is read."""
        return self.suffix.read(hidden)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.suffix.keep(rows)
