"""Tiny random models of every family, with a tokenizer that splits words into several tokens."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from worker.models.families import family_of
from worker.models.loaded import LoadedModel

LAYERS = 4
TEXTS = (
    "The Eiffel Tower is located in the city of Paris.",
    "Lionel Messi plays football; Michael Jordan plays basketball.",
    "Question: What sport does Lionel Messi play? Answer: football",
    "Москва — столица России. 東京は日本の首都です。",
)

_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_GPT = {
    "n_embd": 32,
    "n_layer": LAYERS,
    "n_head": 4,
    "n_positions": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_FALCON = {**_SHAPE, "model_type": "falcon", "ffn_hidden_size": 64}

# A second variant of an architecture says its model_type; the others are named by it.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "gpt_neo": {**_SHAPE, "attention_types": [[["global", "local"], LAYERS // 2]], "window_size": 6},
    "gpt_neox": _SHAPE,
    "opt": {**_SHAPE, "ffn_dim": 128},
    "falcon": _FALCON,
    "falcon-alibi": {**_FALCON, "alibi": True, "parallel_attn": False, "multi_query": False, "bias": True},
    "falcon-new": {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 6},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 3.0},
    "gemma3_text": {
        **_GROUPED,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
    },
    "phi3": _GROUPED,
    "stablelm": {**_GROUPED, "use_qkv_bias": True},
    "stablelm-parallel": {
        **_GROUPED,
        "model_type": "stablelm",
        "use_parallel_residual": True,
        "qk_layernorm": True,
    },
    "olmo2": _GROUPED,
}


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<pad>")


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """A seeded random model of one of CONFIGS, in evaluation mode, its weights large enough to say something."""
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(**{"model_type": name, **CONFIGS[name], "vocab_size": len(tokenizer)})
    family = family_of(config.model_type)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=family.attention, dtype=dtype)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
            elif path.endswith("bias"):
                parameter.normal_(0, 0.05)
    model.eval().requires_grad_(requires_grad=False)
    return LoadedModel(name=f"tiny-{name}", model=model, tokenizer=tokenizer, family=family)


def save_tiny_model(folder: Path, name: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
    """Save a tiny model as people publish theirs; returns the folder."""
    loaded = tiny_model(name, dtype)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder
