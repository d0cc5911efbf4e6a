"""A loaded model with its tokenizer and family: what everything that computes works on."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.models.family import ModelFamily
from worker.models.products import FastProducts


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if that is what it has."""
    return tensor if tensor.dtype is torch.float64 else tensor.float()


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients on its weights.

    model: a transformers causal-LM; tokenizer: a fast one; name: the name it is served under; published_generation: the
    checkpoint's own generation configuration, of which the model's has only what ends a text; products: a faster way to
    compute its linear modules here, where there is one.
    """

    name: str
    model: Any
    tokenizer: Any
    family: ModelFamily
    published_generation: Any = None
    products: FastProducts | None = None

    def reading(self) -> AbstractContextManager[None]:
        """Entered for forward passes without gradients: they take the faster way."""
        return nullcontext() if self.products is None else self.products.in_force()

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the edited weights."""
        dtype: torch.dtype = self.mlp_out(0).weight.dtype
        return dtype

    @property
    def layers(self) -> int:
        """The number of transformer blocks."""
        return int(self.config.num_hidden_layers)

    @property
    def context_length(self) -> int:
        """The longest sequence, tokens."""
        return int(self.config.max_position_embeddings)

    @property
    def pad_token_id(self) -> int:
        """A token to pad with; it is always masked."""
        token = self.tokenizer.pad_token_id
        return int(token if token is not None else self.eos_token_ids[0] if self.eos_token_ids else 0)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        tokens = self.model.generation_config.eos_token_id
        if tokens is None:
            tokens = self.config.eos_token_id
        if tokens is None:
            return ()
        return tuple(tokens) if isinstance(tokens, list) else (int(tokens),)

    @property
    def trunk(self) -> nn.Module:
        """The model without its head; its output is the normed residual stream."""
        module: nn.Module = getattr(self.model, self.model.base_model_prefix)
        return module

    def module(self, path: str, layer: int) -> Any:
        """The module at a family's path."""
        return self.model.get_submodule(path.format(layer))

    def mlp_out(self, layer: int) -> Any:
        """The output projection of a block's MLP."""
        return self.module(self.family.mlp_out, layer)

    def before_post_mlp(self, layer: int, said: Tensor, change: Tensor) -> Tensor:
        """The change [N, h] of what the MLP says [N, h] that moves the residual stream by `change` [N, h].

        They are the same but for families that norm the MLP's output before it joins the stream. An RMS norm fixes its
        output's scale, so there only the direction of what joins the stream can be brought to what it should be.
        """
        if self.family.post_mlp is None:
            return change
        norm = self.module(self.family.post_mlp, layer)
        weight = next(norm.parameters())
        with torch.no_grad():
            gain, joins = (precise(norm(tensor.to(weight))).to(change) for tensor in (torch.ones_like(said[:1]), said))
        wanted = (joins + change) / gain
        scale = said.square().mean(1, keepdim=True).sqrt() / wanted.square().mean(1, keepdim=True).sqrt()
        return wanted * scale - said

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] of the trunk's output [..., h], soft-capped where the family caps.

        In float32, or in float64 for a model in float64.
        """
        head = self.model.get_submodule(self.family.head)
        logits: Tensor = precise(head(hidden.to(head.weight.dtype)))
        cap = getattr(self.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap
