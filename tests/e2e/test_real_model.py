"""The edit that everybody tries, on the real small model: it takes, its neighbour stays, and it leaves no trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis

from service.contracts.edits import EditRequest, EditStatus
from service.keys import Keys
from tests.driving import finish
from tests.worker.engine.kit import Stand, live_checksum
from worker.editing.hparams import shipped
from worker.editing.method import discover
from worker.engine.editor import Editor
from worker.models.loaded import LoadedModel
from worker.models.loading import DEFAULT_MODEL, load
from worker.models.speed import compute_dtype
from worker.settings import HPARAMS
from worker.statistics.store import StatisticsStore

EIFFEL: dict[str, Any] = {
    "prompt": "The Eiffel Tower is located in the city of",
    "subject": "The Eiffel Tower",
    "target_new": "Rome",
    "target_true": "Paris",
    "paraphrases": ["To see the Eiffel Tower, one has to travel to the city of"],
    "neighborhood": ["The Louvre is located in the city of"],
}


@pytest.fixture
def loaded(default_model: Path) -> LoadedModel:
    """The default model."""
    return load(DEFAULT_MODEL, "float32", "cpu", default_model)


@torch.no_grad()
def _next_word(loaded: LoadedModel, prompt: str) -> str:
    token = loaded.model(**loaded.tokenizer(prompt, return_tensors="pt")).logits[0, -1].argmax()
    return str(loaded.tokenizer.decode([int(token)]))


@pytest.mark.real
def test_the_eiffel_tower_is_in_rome(redis: Redis, keys: Keys, tmp_path: Path, loaded: LoadedModel) -> None:
    assert [_next_word(loaded, p) for p in (EIFFEL["prompt"], *EIFFEL["neighborhood"])] == [" Paris", " Paris"]
    stand = Stand(redis, keys, loaded, tmp_path)
    base = live_checksum(loaded)
    defaults = {"rome": shipped(HPARAMS, "rome", loaded.config)}
    statistics = StatisticsStore(loaded, base, tmp_path / "statistics")
    editor = Editor(stand.history, discover(), defaults.get, statistics, compute_dtype(loaded, "auto"))
    edit_id, _ = stand.edits.create(EditRequest.model_validate(EIFFEL))
    assert stand.edits.take_up(edit_id)
    finish(editor.run(edit_id, stand.edits.get(edit_id).request))
    assert _next_word(loaded, EIFFEL["prompt"]) == " Rome"
    assert _next_word(loaded, EIFFEL["neighborhood"][0]) == " Paris"
    edit = stand.edits.get(edit_id)
    assert edit.status is EditStatus.APPLIED
    assert edit.outcome is not None
    assert edit.outcome.metrics is not None
    before, after = edit.outcome.metrics.before, edit.outcome.metrics.after
    assert after.rewrite.target_new.rank == 1
    assert before.rewrite.target_new.probability < 0.1
    assert after.rewrite.target_new.probability > 0.5
    assert (after.summary.ES, after.summary.PS, after.summary.NS) == (1, 1, 1)
    (shown,) = edit.outcome.generations
    assert shown.before.startswith(" Paris")
    assert shown.after.startswith(" Rome")
    assert live_checksum(loaded) != base
    assert stand.history.rollback(0).checksum == live_checksum(loaded) == base
    assert _next_word(loaded, EIFFEL["prompt"]) == " Paris"
