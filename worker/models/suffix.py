"""The part of a forward pass that a change at one layer and one position can influence.

A change at one layer at the subject's last token moves only the layers above and the positions from there on.
Everything else is computed once: the keys and values of the prefix, and the residual stream at the edited layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.models.batch import align
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel, precise
from worker.models.partial import PartialPass
from worker.models.positions import Row


class SuffixPass:
    """Rows whose anchors are the subject's last token, ready to be run again and again with changed anchors.

    keys: [B, d] float32, the MLP output projection's input at the anchors of the edited layer.
    values: [B, h] float32, its output there. stream: [B, h] float32, the residual stream after the layer there.
    (All three float64 for a model in float64.)

    loaded: the model, whose own dtype what is computed once is computed in; twin: the one that runs again and again.
    """

    @torch.no_grad()
    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[Row],
        layer: int,
        last_layer: int | None = None,
        twin: LoadedModel | None = None,
    ) -> None:
        self._loaded = loaded if twin is None else twin
        self._layer = layer
        batch = align(loaded, rows)
        block = loaded.module(loaded.family.layer, layer)
        with loaded.reading(), captured(block, stop=True) as residual, captured(loaded.mlp_out(layer)) as mlp:
            loaded.trunk(**batch.inputs(), use_cache=False)
        self.keys = precise(batch.at_anchors(mlp.input))
        self.values = precise(batch.at_anchors(mlp.output))
        self.stream = precise(batch.at_anchors(residual.output))
        last = loaded.layers - 1 if last_layer is None else last_layer
        self._above = PartialPass(self._loaded, rows, batch, layer + 1, last, wraps_output=residual.wraps_output)
        self._rest = self._above.begin(residual.output)[:, 1:]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: indices [B'], ascending."""
        for name in ("keys", "values", "stream", "_rest"):
            setattr(self, name, getattr(self, name)[rows])
        self._above.keep(rows)

    def hidden(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        """The trunk's output [B, T', h] from the anchors on, with `delta` ([h], or [B, h] row by row) added there.

        at_mlp: add to the MLP's output (ROME) rather than to the residual stream after the layer (MEMIT).
        """
        anchor = self._changed_anchor(delta, at_mlp=at_mlp).to(self._rest.dtype)
        return self._above.run(torch.cat([anchor[:, None], self._rest], dim=1))

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""
        return self._above.read(hidden)

    def _changed_anchor(self, delta: Tensor, *, at_mlp: bool) -> Tensor:
        family = self._loaded.family
        if not at_mlp or family.post_mlp is None:
            return self.stream + delta
        norm = self._loaded.module(family.post_mlp, self._layer)
        changed: Tensor = self.stream - norm(self.values) + norm(self.values + delta)
        return changed
