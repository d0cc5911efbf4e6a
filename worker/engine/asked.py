"""A request to generate, taken up: its rows, the probabilities it asks for, and what has been told of both."""

import time
from collections.abc import Sequence

from service.contracts.lane import Decoded, DecodeRequest, LaneRequest, Piece, Started
from worker.editing.progress import Step, Steps
from worker.engine.decoding import View
from worker.engine.row import Row
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.positions import Row as Target
from worker.models.reads import read_rows
from worker.models.view import Weights


class Asked:
    """One request until it has its last answer.

    steps: what is to be computed beside its rows; None at their end. heard: whether its first token was noted.
    """

    def __init__(self, request: LaneRequest, body: DecodeRequest, started: Started, rows: Sequence[Row]) -> None:
        self.request = request
        self.body = body
        self.started = started
        self.rows = rows
        self.probabilities: tuple[float, ...] = ()
        self.steps: Steps[tuple[float, ...]] | None = None
        self.heard = False
        self._telling = list(enumerate(rows))
        self._began = time.perf_counter()

    @property
    def speaks(self) -> bool:
        """Whether any of its rows goes on."""
        return any(row.finish is None for row in self.rows)

    @property
    def spoke(self) -> bool:
        """Whether any of its rows has got a token."""
        return any(row.said or row.finish for row in self.rows)

    @property
    def ended(self) -> bool:
        """Whether everything asked for is there."""
        return self.steps is None and not self.speaks

    def advance(self) -> None:
        """Compute one of the steps beside the rows, if there are any left."""
        if self.steps is None:
            return
        try:
            next(self.steps)
        except StopIteration as end:
            self.probabilities, self.steps = end.value, None

    def pieces(self) -> tuple[Piece, ...]:
        """What its rows have said since this was asked last."""
        found = [row.piece(number) for number, row in self._telling]
        self._telling = [(number, row) for number, row in self._telling if row.finish is None]
        return tuple(piece for piece in found if piece is not None)

    def decoded(self) -> Decoded:
        """The last answer."""
        return Decoded(
            started=self.started,
            continuations=tuple(row.continuation() for row in self.rows),
            probabilities=self.probabilities,
            seconds=time.perf_counter() - self._began,
        )


def target_probabilities(
    loaded: LoadedModel, view: View, targets: Sequence[Sequence[Target]], sides: Sequence[Weights]
) -> Steps[tuple[float, ...]]:
    """The probability of each target, whole, by teacher forcing: for each prompt, under each weights, of each target.

    targets: the rows to read, prompt by prompt. A step runs as many rows as are worth one.
    """
    asked = [(target, side) for of_prompt in targets for side in sides for target in of_prompt]
    widest = max(len(row.ids) for row, _ in asked)
    most = max(1, MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"]) // widest)
    found: list[float] = []
    for begin in range(0, len(asked), most):
        rows, weights = zip(*asked[begin : begin + most], strict=True)
        with view(weights):
            found += (float(read.logprobs.sum().exp()) for read in read_rows(loaded, rows))
        yield Step("probabilities", len(found), len(asked))
    return tuple(found)
