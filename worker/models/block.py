"""The part of a forward pass that changes of one block's attention and MLP at one position can influence."""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.models.batch import align
from worker.models.hooks import added, captured
from worker.models.loaded import LoadedModel, precise
from worker.models.partial import PartialPass
from worker.models.positions import Row


class BlockPass:
    """Rows whose anchors are the subject's last token, to be run with deltas at two places of one block.

    The block itself runs too: where its MLP comes after its attention, it sees what the attention says.

    initial: [B, 2, h] float32 (float64 for a model in float64), the attention's output and the MLP's at the anchors.

    loaded: the model, whose own dtype what is computed once is computed in; twin: the one that runs again and again.
    """

    @torch.no_grad()
    def __init__(
        self, loaded: LoadedModel, rows: Sequence[Row], layer: int, last_layer: int, twin: LoadedModel
    ) -> None:
        batch = align(loaded, rows)
        places = loaded.module(loaded.family.attn_out, layer), loaded.mlp_out(layer)
        block = loaded.module(loaded.family.layer, layer)
        with (
            loaded.reading(),
            captured(block, stop=True) as whole,
            captured(places[0]) as attention,
            captured(places[1]) as mlp,
        ):
            loaded.trunk(**batch.inputs(), use_cache=False)
        self.initial = torch.stack([precise(batch.at_anchors(said.output)) for said in (attention, mlp)], dim=1)
        self._places = twin.module(twin.family.attn_out, layer), twin.mlp_out(layer)
        self._from = PartialPass(twin, rows, batch, layer, last_layer, wraps_output=whole.wraps_output)
        self._entering = self._from.begin(whole.input)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: indices [B'], ascending."""
        self.initial, self._entering = self.initial[rows], self._entering[rows]
        self._from.keep(rows)

    def hidden(self, deltas: Tensor) -> Tensor:
        """The trunk's output [B, T', h] from the anchors on, with `deltas` [B, 2, h] added there."""
        attention, mlp = self._places
        with added(attention, deltas[:, 0]), added(mlp, deltas[:, 1]):
            return self._from.run(self._entering)

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""
        return self._from.read(hidden)
