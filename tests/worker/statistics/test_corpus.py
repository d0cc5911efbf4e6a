"""Text for key statistics: the file's own tokens in order, or the model's own words."""

from pathlib import Path

import pytest
import torch

from tests.families import CONFIGS, tiny_model
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.statistics import corpus

LINES = ["The Eiffel Tower is in Paris.\n", "\n", "東京は日本の首都です。\n", "Messi plays football.\n"]


@pytest.fixture
def loaded() -> LoadedModel:
    return tiny_model("llama")


def _write(folder: Path, lines: int) -> Path:
    path = folder / "corpus.txt"
    path.write_text("".join(LINES[index % 4] for index in range(lines)), encoding="utf-8")
    return path


@pytest.mark.parametrize("tokens", [1, 128, 129, 128 * 16, 128 * 17 + 1])
def test_a_file_is_read_in_order_without_a_gap(loaded: LoadedModel, tmp_path: Path, tokens: int) -> None:
    path = _write(tmp_path, 400)
    batches = list(corpus.from_file(loaded, path, tokens))
    read = torch.cat([batch.reshape(-1) for batch in batches]).tolist()
    lines = path.read_text().splitlines(keepends=True)
    whole = [token for line in lines for token in loaded.tokenizer(line)["input_ids"]]
    assert read == whole[: len(read)]
    assert tokens <= len(read) < tokens + loaded.context_length
    assert all(batch.shape[0] <= corpus.ROWS and batch.shape[1] == loaded.context_length for batch in batches)


def test_a_file_that_is_too_short_says_how_long_it_is(loaded: LoadedModel, tmp_path: Path) -> None:
    batches = corpus.from_file(loaded, _write(tmp_path, 20), 100_000)
    with pytest.raises(EditError, match=r"hparams\.mom2_n_tokens: asks for 100000 tokens") as raised:
        list(batches)
    assert raised.value.name == "corpus-too-short"


@pytest.mark.parametrize("family", CONFIGS)
def test_the_model_speaks_for_itself(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "WINDOW", 24)
    loaded = tiny_model(family)
    first, again = (list(corpus.from_model(loaded, 300, seed=1)) for _ in range(2))
    assert [batch.shape for batch in first] == [(16, 12)] * 2
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert set(first[0][:, 0].tolist()) == {loaded.tokenizer.bos_token_id}
    other = next(corpus.from_model(loaded, 300, seed=2))
    assert not torch.equal(other, first[0])
    assert len({tuple(row) for row in first[0].tolist()}) == 16


def test_a_text_is_never_longer_than_the_models_context(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "WINDOW", 10**6)
    assert next(corpus.from_model(loaded, 1, seed=0)).shape == (16, loaded.context_length)


def test_the_models_words_follow_its_own_distribution(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "WINDOW", 4)
    drawn = torch.cat([batch[:, 1] for batch in corpus.from_model(loaded, 2 * 2000, seed=3)])
    with torch.no_grad():
        likely = loaded.model(torch.tensor([[loaded.tokenizer.bos_token_id]])).logits[0, -1].softmax(-1)
    top = likely.topk(10).indices
    expected = float(likely[top].sum())
    share = float(torch.isin(drawn, top).float().mean())
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(drawn)) ** 0.5)


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    path = _write(tmp_path, 5)
    before = corpus.digest(path)
    path.rename(path.with_name("other.txt"))
    assert corpus.digest(_write(tmp_path, 5)) == before
    assert corpus.digest(_write(tmp_path, 6)) != before
