"""The keys of many facts at a layer, and what the residual stream says at their subjects now."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from worker.editing.context import FactLike
from worker.editing.progress import Step, Steps
from worker.models.batch import align
from worker.models.hooks import captured
from worker.models.loaded import LoadedModel, precise
from worker.models.memory import MOST_TOKENS, token_budget
from worker.models.positions import Row, subject_row


class SubjectRows:
    """Every fact's prompt up to the subject's last token, bare and after each prefix: all that a key depends on."""

    def __init__(self, loaded: LoadedModel, facts: Sequence[FactLike], prefixes: Sequence[str]) -> None:
        def row(fact: FactLike, prefix: str) -> Row:
            return subject_row(loaded.tokenizer, fact.prompt, fact.subject, prefix)

        self._loaded = loaded
        self._bare = [row(fact, "") for fact in facts]
        self._prefixed = [row(fact, prefix) for fact in facts for prefix in prefixes if prefix]

    def keys(self, layer: int) -> Steps[Tensor]:
        """K, [d, N] float32: the mean of the bare prompts' keys and of the mean over the prefixed ones."""
        bare, _ = yield from self._at(self._bare, layer, None)
        return (yield from self._with_prefixed(bare, layer)).T

    def keys_and_stream(self, layer: int, stream_layer: int) -> Steps[tuple[Tensor, Tensor]]:
        """K, [d, N], and the residual stream after `stream_layer` at the bare prompts' anchors, [h, N]."""
        bare, stream = yield from self._at(self._bare, layer, stream_layer)
        keys = yield from self._with_prefixed(bare, layer)
        return keys.T, stream.T

    def _with_prefixed(self, bare: Tensor, layer: int) -> Steps[Tensor]:
        if not self._prefixed:
            return bare
        prefixed, _ = yield from self._at(self._prefixed, layer, None)
        return (bare + prefixed.reshape(len(bare), -1, bare.shape[1]).mean(1)) / 2

    def _at(self, rows: Sequence[Row], layer: int, stream_layer: int | None) -> Steps[tuple[Tensor, Tensor]]:
        keys: list[Tensor] = []
        streams: list[Tensor] = []
        order = sorted(range(len(rows)), key=lambda index: rows[index].anchor)
        done = 0
        for chunk in self._chunks([rows[index] for index in order]):
            key, stream = self._anchors(chunk, layer, stream_layer)
            keys.append(key)
            streams.append(stream)
            done += len(chunk)
            yield Step("keys", done, len(rows))
        back = torch.argsort(torch.tensor(order))
        return torch.cat(keys)[back], torch.cat(streams)[back]

    def _chunks(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        # Without gradients a token holds next to nothing, so only the time of one step bounds a chunk.
        loaded = self._loaded
        most = 4 * MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
        tokens = min(most, loaded.layers * token_budget(loaded, loaded.layers))
        chunk: list[Row] = []
        for row in rows:
            if chunk and (len(chunk) + 1) * (row.anchor + 1) > tokens:
                yield chunk
                chunk = []
            chunk.append(row)
        yield chunk

    @torch.no_grad()
    def _anchors(self, rows: Sequence[Row], layer: int, stream_layer: int | None) -> tuple[Tensor, Tensor]:
        """[B, d] keys and, where a layer is named for it, [B, h] residual stream at the anchors."""
        loaded = self._loaded
        batch = align(loaded, rows)
        if stream_layer is None:
            with captured(loaded.mlp_out(layer), stop=True) as mlp:
                loaded.trunk(**batch.inputs(), use_cache=False)
            keys = precise(batch.at_anchors(mlp.input)).cpu()
            return keys, keys[:, :0]
        block = loaded.module(loaded.family.layer, stream_layer)
        with captured(block, stop=True) as residual, captured(loaded.mlp_out(layer)) as mlp:
            loaded.trunk(**batch.inputs(), use_cache=False)
        return precise(batch.at_anchors(mlp.input)).cpu(), precise(batch.at_anchors(residual.output)).cpu()
