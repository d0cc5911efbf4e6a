"""A model architecture as data: where its parts are and how its weights lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelFamily:
    """One architecture. Paths are from the causal-LM model; `{}` is the layer.

    name: the configuration's `model_type`.
    layer: a transformer block, whose output is the residual stream.
    mlp_out: the output projection of a block's MLP: the weights that edits rewrite.
    attn_out: the output projection of its attention.
    head: the unembedding.
    in_out: whether `mlp_out.weight` is [d, h] (Conv1D) rather than [h, d] (Linear).
    post_mlp: a norm between the MLP's output and the residual stream, where there is one.
    attention: the attention implementation of transformers that computes this family exactly.
    requires: what a configuration must say, by name, for the rest to hold; what it leaves out is taken to be so.
    """

    name: str
    layer: str
    mlp_out: str
    attn_out: str
    head: str = "lm_head"
    in_out: bool = False
    post_mlp: str | None = None
    attention: str = "sdpa"
    requires: Mapping[str, object] = field(default_factory=dict, hash=False)
