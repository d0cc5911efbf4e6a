"""Documents become windows: every token once, in order, none wider than the cap."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.families import tiny_model, tiny_tokenizer
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.statistics import windows

LINES = ["The Eiffel Tower is in Paris.\n", "\n", "東京は日本の首都です。\n", "Messi plays football.\n"]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model("llama")


def _lines(count: int) -> list[str]:
    return [LINES[index % 4] for index in range(count)]


def _read(loaded: LoadedModel, documents: list[str], tokens: int) -> list[Tensor]:
    return [batch for batch in windows.batches(loaded, documents, tokens, 0) if batch is not None]


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 5000))
def test_a_text_is_read_in_order_without_a_gap(tokens: int) -> None:
    loaded = tiny_model("llama")
    lines = _lines(600)
    batches = _read(loaded, lines, tokens)
    read = torch.cat([batch.flatten() for batch in batches]).tolist()
    whole = [token for line in lines for token in loaded.tokenizer(line)["input_ids"]]
    assert read == whole[: len(read)]
    assert tokens <= len(read) < tokens + loaded.context_length
    assert all(batch.shape[1] == loaded.context_length for batch in batches)
    assert [batch.shape[0] for batch in batches[:-1]] == [windows.ROWS] * (len(batches) - 1)


def test_the_texts_end_counts_to_the_last_token(loaded: LoadedModel) -> None:
    lines = _lines(150)
    whole = [token for line in lines for token in loaded.tokenizer(line)["input_ids"]]
    assert len(whole) % loaded.context_length
    batches = _read(loaded, lines, len(whole))
    assert torch.cat([batch.flatten() for batch in batches]).tolist() == whole
    with pytest.raises(EditError, match=rf"^hparams\.mom2_n_tokens: {len(whole) + 1} .* has {len(whole)};") as raised:
        _read(loaded, lines, len(whole) + 1)
    assert raised.value.name == "corpus-too-short"


def test_no_window_is_longer_than_the_cap(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the model's context is."""
    monkeypatch.setattr(windows, "WINDOW", 24)
    assert {batch.shape[1] for batch in _read(loaded, ["Lionel Messi " * 5000], 2400)} == {24}


def test_every_window_begins_as_the_tokenizer_begins_a_text(loaded: LoadedModel) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=type(tiny_tokenizer().backend_tokenizer).from_str(tiny_tokenizer().backend_tokenizer.to_str())
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", 1)])
    batches = _read(replace(loaded, tokenizer=tokenizer), _lines(300), 128 * 10)
    assert [batch.shape for batch in batches] == [(8, 128), (2, 128)]
    assert all(set(batch[:, 0].tolist()) == {1} for batch in batches)
    assert not any((batch[:, 1:] == 1).any() for batch in batches)


def test_first_batches_are_only_skipped(loaded: LoadedModel) -> None:
    everything = _read(loaded, _lines(600), 4000)
    rest = list(windows.batches(loaded, _lines(600), 4000, 2))
    assert rest[:2] == [None, None]
    assert len(rest) == len(everything)
    assert all(torch.equal(*pair) for pair in zip(rest[2:], everything[2:], strict=True))  # type: ignore[arg-type]


def test_while_a_document_is_awaited_nothing_is_held_up(loaded: LoadedModel) -> None:
    def documents() -> Iterator[str | None]:
        for line in _lines(300):
            yield None
            yield line

    seen = list(windows.batches(loaded, documents(), 1500, 0))
    assert seen[0] is None
    read = [batch for batch in seen if batch is not None]
    assert all(torch.equal(*pair) for pair in zip(read, _read(loaded, _lines(300), 1500), strict=True))
