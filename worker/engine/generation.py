"""Decode many continuations at once, whatever the revision, seed and length of each."""

from collections.abc import Sequence

from service.contracts.generate import Continuation
from worker.engine.decoding import Decoding, View
from worker.engine.row import Row, Wanted
from worker.models.loaded import LoadedModel


def decode(loaded: LoadedModel, view: View, wanted: Sequence[Wanted]) -> list[Continuation]:
    """Continue all prompts together, row i under the weights of `wanted[i]`."""
    rows = [Row(loaded, each) for each in wanted]
    decoding = Decoding(loaded, view)
    decoding.join(rows)
    while decoding.rows:
        decoding.step()
    return [row.continuation() for row in rows]
