"""A model is loaded from what is safe and complete, or refused with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import CONFIGS, save_tiny_model, tiny_model
from tests.worker.engine.kit import bits, live_checksum, same_bits, timeless, wanted
from worker.engine.generation import decode
from worker.engine.resident import Resident
from worker.errors import ModelNotFoundError, UnsupportedModelError, WorkerError
from worker.models.families import FAMILIES
from worker.models.loaded import LoadedModel
from worker.models.loading import DEFAULT_MODEL, converted_default, load, resolve_device

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a tiny model of a family as people publish theirs; returns its folder."""

    def saved(family: str = "llama", dtype: torch.dtype = torch.float32) -> Path:
        folder = tmp_path / f"my-{family}"
        save_tiny_model(folder, family, dtype)
        return folder

    return saved


def _load(folder: Path | str, dtype: str = "auto", device: str = "cpu") -> LoadedModel:
    return load(str(folder), dtype, device, Path("/nowhere"))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_folder_gives_the_model_that_was_saved(save: Save, family: str) -> None:
    loaded = _load(save(family))
    assert loaded.name == f"my-{family}"
    assert loaded.family is tiny_model(family).family
    assert loaded.dtype == torch.float32
    assert same_bits(bits(loaded), bits(tiny_model(family)))
    assert loaded.model.config._attn_implementation == loaded.family.attention
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    text = "Messi plays 東京"
    assert loaded.tokenizer(text)["input_ids"] == tiny_model(family).tokenizer(text)["input_ids"]


def test_the_same_folder_has_the_same_checksum(save: Save) -> None:
    folder = save("gpt2")
    assert live_checksum(_load(folder)) == live_checksum(_load(folder)) == live_checksum(tiny_model("gpt2"))


@pytest.mark.parametrize(
    ("asked", "got"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_dtype(save: Save, asked: str, got: torch.dtype) -> None:
    """auto is float32 on a CPU, whatever the checkpoint is stored in."""
    assert _load(save("llama", torch.bfloat16), asked).dtype == got


def test_a_folder_may_be_relative_or_in_the_home(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save()
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in ("my-llama", "./my-llama", "~/my-llama"):
        assert _load(name).name == "my-llama"


def test_the_checkpoints_decoding_habits_are_left_out(save: Save) -> None:
    """Some ship a repetition penalty or a top-k; asked is what the model itself says. What ends a text stays."""
    folder = save()
    prompts = ("The Eiffel Tower is located in the city of", "The")
    rows = [wanted(prompts[0], 0, {}, 12), wanted(prompts[1], 0, {}, 12, temperature=1.0, seed=4)]
    plain = tiny_model("llama")
    expected = list(map(timeless, decode(plain, Resident(plain).view, rows)))
    habits: dict[str, Any] = {
        "repetition_penalty": 50.0,
        "do_sample": True,
        "top_k": 1,
        "temperature": 0.1,
        "no_repeat_ngram_size": 1,
    }
    habits |= {"max_length": 13, "suppress_tokens": list(range(2, 200)), "min_new_tokens": 3, "num_beams": 2}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], **habits}))
    loaded = _load(folder)
    assert loaded.eos_token_ids == (1, 2)
    loaded.model.generation_config.eos_token_id = 1
    assert list(map(timeless, decode(loaded, Resident(loaded).view, rows))) == expected


def _refusal(folder: Path | str, kind: type[WorkerError], **options: str) -> str:
    with pytest.raises(WorkerError) as raised:
        _load(folder, **options)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert f"{missing} is missing" in _refusal(missing, ModelNotFoundError)
    (tmp_path / "empty").mkdir()
    assert "no config.json" in _refusal(tmp_path / "empty", ModelNotFoundError)


@pytest.mark.parametrize("content", ["", "{", "[]", '"llama"', "{}"])
def test_a_config_that_is_none(save: Save, content: str) -> None:
    folder = save()
    (folder / "config.json").write_text(content)
    with pytest.raises((ModelNotFoundError, UnsupportedModelError)):
        _load(folder)


@pytest.mark.parametrize("family", ["bloom", "bert", "never-heard-of", "llava", "gemma3"])
def test_other_architectures_are_told_which_are_supported(save: Save, family: str) -> None:
    folder = save()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": family}))
    refusal = _refusal(folder, UnsupportedModelError)
    assert repr(family) in refusal
    assert all(name in refusal for name in FAMILIES)


def test_a_model_with_images_is_told_of_those_without(save: Save) -> None:
    folder = save("gemma3_text")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}))
    assert "only its text models, 'gemma3_text', are" in _refusal(folder, UnsupportedModelError)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.requires])
def test_variants_that_compute_otherwise_are_refused(save: Save, name: str) -> None:
    """Such as opt-350m, which norms the sum of MLP and residual stream, or gemma3's embedding model."""
    folder = save(name)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in FAMILIES[name].requires.items():
        path.write_text(json.dumps({**config, key: not value}))
        assert key in _refusal(folder, UnsupportedModelError)
        path.write_text(json.dumps({other: config[other] for other in config if other != key}))
        assert getattr(_load(folder).config, key) == value, "what a configuration leaves out is taken to be so"


def test_a_model_that_brings_its_own_code_is_not_run(save: Save, tmp_path: Path) -> None:
    folder, ran = save(), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Mine: pass\n")
    _refusal(folder, UnsupportedModelError)
    assert not ran.exists()


class Evil:
    """Unpickled, it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_pickled_weights_are_refused_and_never_read(save: Save, tmp_path: Path) -> None:
    folder, trace = save(), tmp_path / "trace"
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Evil(trace)}, folder / "pytorch_model.bin")
    assert "safetensors" in _refusal(folder, ModelNotFoundError)
    assert not trace.exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "not safetensors"])
def test_weights_that_cannot_be_read(save: Save, damage: str) -> None:
    folder = save()
    path = folder / "model.safetensors"
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case _:
            path.write_bytes(b"these are no tensors at all" * 100)
    assert str(folder) in _refusal(folder, ModelNotFoundError)


def test_weights_of_another_shape(save: Save) -> None:
    folder = save()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    assert str(folder) in _refusal(folder, ModelNotFoundError)


def test_weights_that_are_not_all_there(save: Save) -> None:
    """A tensor that is missing would be made up at random."""
    folder = save()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    assert "model.layers.4" in _refusal(folder, ModelNotFoundError)


def test_a_folder_without_a_tokenizer(save: Save) -> None:
    folder = save()
    for path in [*folder.glob("tokenizer*"), *folder.glob("special*")]:
        path.unlink()
    with pytest.raises((ModelNotFoundError, UnsupportedModelError), match="tokenizer"):
        _load(folder)


def test_a_slow_tokenizer_is_not_enough(save: Save) -> None:
    folder = save("llama")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "vocab.txt").write_text("\n".join(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "messi", "plays"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    with pytest.raises((ModelNotFoundError, UnsupportedModelError), match="tokenizer"):
        _load(folder)


def test_an_id_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refusal = _refusal("nobody/nothing-at-all", ModelNotFoundError)
    assert "nobody/nothing-at-all" in refusal
    assert DEFAULT_MODEL in refusal


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(save: Save, device: str) -> None:
    assert "Use --device cpu" in _refusal(save(), ModelNotFoundError, device=device)
    assert resolve_device("auto") == torch.device("cpu")


def test_the_default_model_is_converted_once(tmp_path: Path) -> None:
    folder = tmp_path / "models" / DEFAULT_MODEL
    folder.mkdir(parents=True)
    assert converted_default(tmp_path) == folder
