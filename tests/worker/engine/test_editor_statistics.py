"""Edits with key statistics: taken on the base, once, as a phase of the edit that needs them first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.driving import finish_noting
from tests.worker.engine.desk import Desk, committed
from tests.worker.engine.kit import random_delta

ADJUSTED = {"mom2_adjustment": True, "mom2_n_tokens": 3000}


def _computed(desk: Desk) -> list[Path]:
    return sorted(desk.statistics.glob("*.npz"))


def test_own_statistics_are_computed_once_and_turn_the_edit(desk: Desk) -> None:
    plain = desk.run()
    desk.stand.history.rollback(0)
    _, steps = desk.begin(hparams=ADJUSTED)
    end, seen = finish_noting(steps)
    revision = committed(end)
    assert {step.step for step in seen if step.phase == "statistics"} >= {0, 1024, 2048, 3000}
    assert revision.checksum != desk.stand.ledger.revision(plain.revision or 0).checksum
    (file,) = _computed(desk)
    known = file.read_bytes()
    desk.stand.history.rollback(0)
    _, steps = desk.begin(hparams=ADJUSTED)
    end, seen = finish_noting(steps)
    again = committed(end)
    assert not any(step.phase == "statistics" for step in seen)
    assert again.checksum == revision.checksum
    assert [path.read_bytes() for path in _computed(desk)] == [known]


def test_statistics_are_the_base_models(open_desk: Callable[..., Desk]) -> None:
    """Taken on an edited head, text and all, they are the same as on the base."""
    hparams = {**ADJUSTED, "layers": [2]}
    desk = open_desk()
    desk.stand.commit(random_delta(desk.stand.loaded, 1, scale=1.0))
    desk.run(hparams=hparams)
    (file,) = _computed(desk)
    on_head = file.read_bytes()
    for path in (file, *desk.statistics.glob("self.*/*")):
        path.unlink()
    desk.stand.history.rollback(0)
    desk.run(hparams=hparams)
    assert file.read_bytes() == on_head


def test_a_cancelled_edit_leaves_what_it_has_for_the_next(desk: Desk) -> None:
    _, steps = desk.begin(hparams=ADJUSTED)
    while next(steps).step < 2048:
        pass
    steps.close()
    _, steps = desk.begin(hparams=ADJUSTED)
    _, seen = finish_noting(steps)
    assert min(step.step for step in seen if step.steps == 3000) == 3000, "only the last batch was left"


def _corpus(folder: Path, lines: int) -> Path:
    path = folder / "corpus.txt"
    path.write_text("The Eiffel Tower is in Paris. Lionel Messi plays football.\n" * lines, encoding="utf-8")
    return path


def test_statistics_of_a_corpus(open_desk: Callable[..., Desk], tmp_path: Path) -> None:
    hparams = {"mom2_adjustment": True, "mom2_dataset": "corpus", "mom2_n_tokens": 600}
    first = open_desk("gpt2", _corpus(tmp_path, 60)).run(hparams=hparams)
    assert first.revision == 1
    other = open_desk("gpt2", _corpus(tmp_path, 61))
    other.stand.history.rollback(0)
    other.run(hparams=hparams)
    assert len(_computed(other)) == 2, "another text has statistics of its own"


@pytest.mark.parametrize("corpus", ["none", "missing", "short", "empty", "not text"])
def test_a_corpus_that_cannot_be_used_is_a_problem(open_desk: Callable[..., Desk], tmp_path: Path, corpus: str) -> None:
    path: Path | None = tmp_path / "corpus.txt"
    assert path is not None
    match corpus:
        case "none":
            path = None
        case "short":
            _corpus(tmp_path, 10)
        case "empty":
            path.touch()
        case "not text":
            path.write_bytes(b"\xff\xfe\x80" * 5000)
    error = open_desk("llama", path).refused(
        hparams={"mom2_adjustment": True, "mom2_dataset": "corpus", "mom2_n_tokens": 5000}
    )
    assert "hparams.mom2_" in str(error)
    assert str(tmp_path) not in str(error)


def test_a_path_is_nothing_that_a_client_may_name(desk: Desk, tmp_path: Path) -> None:
    error = desk.refused(hparams={"mom2_adjustment": True, "mom2_dataset": str(_corpus(tmp_path, 60))})
    assert "mom2_dataset" in str(error)
