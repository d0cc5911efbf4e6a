"""What a change of one layer's MLP output projection makes of whole rows; everything below it is computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.models.batch import align
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel, precise
from worker.models.partial import PartialPass
from worker.models.positions import Row


class LayerPass:
    """Rows, all with their first token as anchor, ready to be run again and again with a changed projection.

    A changed projection moves every position, so only the layers below it are spared.

    loaded: the model, whose own dtype what is computed once is computed in; twin: the one that runs again and again.
    """

    @torch.no_grad()
    def __init__(self, loaded: LoadedModel, rows: Sequence[Row], layer: int, twin: LoadedModel) -> None:
        path = loaded.family.post_mlp
        self._norm = None if path is None else loaded.module(path, layer)
        batch = align(loaded, rows)
        block = loaded.module(loaded.family.layer, layer)
        with loaded.reading(), captured(block, stop=True) as residual, captured(loaded.mlp_out(layer)) as mlp:
            loaded.trunk(**batch.inputs(), use_cache=False)
        shape = batch.input_ids.shape
        self._keys = mlp.input.reshape(*shape, -1)
        self._values = None if self._norm is None else mlp.output.reshape(*shape, -1)
        self._stream = residual.output
        self._above = PartialPass(twin, rows, batch, layer + 1, loaded.layers - 1, wraps_output=residual.wraps_output)
        self._dtype = self._above.begin(residual.output).dtype

    @property
    def bytes(self) -> int:
        """What it holds."""
        held = (self._keys, self._stream, self._values)
        return sum(tensor.numel() * tensor.element_size() for tensor in held if tensor is not None)

    def hidden(self, change: Tensor) -> Tensor:
        """The trunk's output [B, T, h] with `change` [h, d] added to the projection."""
        moved = precise(self._keys) @ change.T
        if self._norm is not None and self._values is not None:
            values = precise(self._values)
            moved = self._norm(values + moved) - self._norm(values)
        return self._above.run((precise(self._stream) + moved).to(self._dtype))

    def read(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, h] at the M positions that the rows read, row after row."""
        return self._above.read(hidden)
