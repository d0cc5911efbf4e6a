"""A tiny random model of every family, with a tokenizer that splits words into several tokens."""

from functools import cache
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

CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": _GPT,
    "gptj": {**_GPT, "rotary_dim": 4},
    "gpt_neox": _SHAPE,
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 6},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 3.0},
    "phi3": _GROUPED,
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


def tiny_model(family: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """A seeded random model of a family, in evaluation mode, its weights large enough to say something."""
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **CONFIGS[family])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=family_of(family).attention, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.05)
    model.eval().requires_grad_(requires_grad=False)
    return LoadedModel(name=f"tiny-{family}", model=model, tokenizer=tokenizer, family=family_of(family))
