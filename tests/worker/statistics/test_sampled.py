"""The model's own words: its distribution, the same every time, written once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.families import CONFIGS, tiny_model
from worker.models.loaded import LoadedModel
from worker.statistics import sampled, windows

GROUP = windows.ROWS * sampled.BATCHES


def _read(loaded: LoadedModel, folder: Path, tokens: int, first: int = 0) -> list[Tensor]:
    return [batch for batch in sampled.batches(loaded, folder, tokens, first) if batch is not None]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 12)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_model_speaks_for_itself(family: str, tmp_path: Path) -> None:
    loaded = tiny_model(family)
    first, again = (_read(loaded, tmp_path / name, 450) for name in "ab")
    assert [batch.shape for batch in first] == [(8, 12)] * 5
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert {int(batch[row, 0]) for batch in first for row in range(8)} == {loaded.tokenizer.bos_token_id}
    assert len({tuple(row) for batch in first for row in batch.tolist()}) == 40


def test_a_text_is_never_longer_than_the_models_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 10**6)
    loaded = tiny_model("llama")
    assert [batch.shape for batch in _read(loaded, tmp_path, 1)] == [(8, loaded.context_length)]


def test_a_step_is_a_token(tmp_path: Path) -> None:
    seen = list(sampled.batches(tiny_model("llama"), tmp_path, 1, 0))
    assert [batch is None for batch in seen] == [True] * 11 + [False]


def test_the_models_words_follow_its_own_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 2)
    loaded = tiny_model("llama")
    drawn = torch.cat([batch[:, 1] for batch in _read(loaded, tmp_path, 2 * 3200)])
    with torch.no_grad():
        likely = loaded.model(torch.tensor([[loaded.tokenizer.bos_token_id]])).logits[0, -1].softmax(-1)
    for some in (likely.topk(10).indices, torch.arange(0, len(likely), 2)):
        expected = float(likely[some].sum())
        share = float(torch.isin(drawn, some).float().mean())
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(drawn)) ** 0.5)


def test_a_word_without_any_probability_is_never_drawn() -> None:
    logits = torch.full((4000, 5), -torch.inf)
    logits[:, 1] = 0.0
    logits[:, 3] = 1.0
    drawn = sampled._drawn(logits, torch.Generator().manual_seed(0))
    assert set(drawn.flatten().tolist()) == {1, 3}


def test_what_is_written_once_is_read_by_all(tmp_path: Path) -> None:
    loaded = tiny_model("llama")
    many = _read(loaded, tmp_path, 12 * GROUP + 1)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(files) == 2
    seen = list(sampled.batches(loaded, tmp_path, 12 * GROUP + 1, 0))
    assert all(batch is not None for batch in seen), "nothing is written again"
    few = _read(loaded, tmp_path, 100)
    assert all(torch.equal(*pair) for pair in zip(few, many[: len(few)], strict=True))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("first", [1, 4, 5])
def test_first_batches_are_skipped(tmp_path: Path, first: int) -> None:
    loaded = tiny_model("llama")
    tokens = 12 * GROUP * 2
    rest = _read(loaded, tmp_path / "rest", tokens, first)
    assert [path.name for path in sorted((tmp_path / "rest").iterdir())] == ["000000.npy", "000001.npy"][first // 4 :]
    everything = _read(loaded, tmp_path / "all", tokens)
    assert len(everything) == 8
    assert all(torch.equal(*pair) for pair in zip(rest, everything[first:], strict=True))
