"""The architectures that can be edited: one literal each."""

from collections.abc import Mapping
from types import MappingProxyType

from worker.errors import UnsupportedModelError
from worker.models.family import ModelFamily


def _llama_like(name: str) -> ModelFamily:
    return ModelFamily(
        name=name,
        layer="model.layers.{}",
        mlp_out="model.layers.{}.mlp.down_proj",
        attn_out="model.layers.{}.self_attn.o_proj",
    )


FAMILIES: Mapping[str, ModelFamily] = MappingProxyType(
    {
        family.name: family
        for family in (
            ModelFamily(
                name="gpt2",
                layer="transformer.h.{}",
                mlp_out="transformer.h.{}.mlp.c_proj",
                attn_out="transformer.h.{}.attn.c_proj",
                in_out=True,
            ),
            ModelFamily(
                name="gptj",
                layer="transformer.h.{}",
                mlp_out="transformer.h.{}.mlp.fc_out",
                attn_out="transformer.h.{}.attn.out_proj",
                attention="eager",  # transformers has no other for it
            ),
            ModelFamily(
                name="gpt_neo",
                layer="transformer.h.{}",
                mlp_out="transformer.h.{}.mlp.c_proj",
                attn_out="transformer.h.{}.attn.attention.out_proj",
                attention="eager",  # transformers has no other for it that runs on a CPU
            ),
            ModelFamily(
                name="gpt_neox",
                layer="gpt_neox.layers.{}",
                mlp_out="gpt_neox.layers.{}.mlp.dense_4h_to_h",
                attn_out="gpt_neox.layers.{}.attention.dense",
            ),
            ModelFamily(
                name="opt",
                layer="model.decoder.layers.{}",
                mlp_out="model.decoder.layers.{}.fc2",
                attn_out="model.decoder.layers.{}.self_attn.out_proj",
                # opt-350m norms the sum of MLP and residual stream, and its embedding is narrower than the stream
                requires={"do_layer_norm_before": True},
            ),
            ModelFamily(  # eager attention would add ALiBi twice, in the mask and beside it
                name="falcon",
                layer="transformer.h.{}",
                mlp_out="transformer.h.{}.mlp.dense_4h_to_h",
                attn_out="transformer.h.{}.self_attention.dense",
            ),
            _llama_like("llama"),
            _llama_like("mistral"),
            _llama_like("qwen2"),
            _llama_like("qwen3"),
            ModelFamily(
                name="gemma2",
                layer="model.layers.{}",
                mlp_out="model.layers.{}.mlp.down_proj",
                attn_out="model.layers.{}.self_attn.o_proj",
                post_mlp="model.layers.{}.post_feedforward_layernorm",
                attention="eager",  # scaled dot-product attention leaves out the soft cap
            ),
            ModelFamily(
                name="gemma3_text",
                layer="model.layers.{}",
                mlp_out="model.layers.{}.mlp.down_proj",
                attn_out="model.layers.{}.self_attn.o_proj",
                post_mlp="model.layers.{}.post_feedforward_layernorm",
                # an embedding model sees both ways; the soft cap is gemma2's, and no published gemma3 has it
                requires={"use_bidirectional_attention": False, "attn_logit_softcapping": None},
            ),
            _llama_like("phi3"),
            _llama_like("stablelm"),
            ModelFamily(
                name="olmo2",
                layer="model.layers.{}",
                mlp_out="model.layers.{}.mlp.down_proj",
                attn_out="model.layers.{}.self_attn.o_proj",
                post_mlp="model.layers.{}.post_feedforward_layernorm",
            ),
        )
    }
)


def family_of(model_type: str) -> ModelFamily:
    """The family of a configuration's `model_type`; raises UnsupportedModelError naming those there are."""
    if model_type not in FAMILIES:
        text = f"{model_type}_text"  # the name of a multimodal model's language model, saved by itself
        hint = f"; only its text models, {text!r}, are" if text in FAMILIES else ""
        raise UnsupportedModelError(
            f"The architecture {model_type!r} is not supported{hint}. Supported families: {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]
