"""Models of random weights in the shape of a published one, to measure speed without its files."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "llama-3-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    },
}
"""`tiny` is to try the benchmark itself."""


@contextmanager
def random_model(shape: str) -> Iterator[Path]:
    """A folder with such a model in bfloat16, whose texts never end, and a tokenizer of bytes."""
    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(**SHAPES[shape], bos_token_id=None, eos_token_id=None, dtype="bfloat16")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        with torch.device(device):
            model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(folder)
        del model
        torch.cuda.empty_cache()
        _tokenizer(SHAPES[shape]["vocab_size"]).save_pretrained(folder)
        yield Path(folder)


def _tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One token for each byte, and one for every other number that the model may say."""
    letters = ByteLevel.alphabet()
    words = [*letters, *(f"<{number}>" for number in range(len(letters), size))]
    tokenizer = Tokenizer(BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = Decoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
