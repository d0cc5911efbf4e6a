"""A pass that is cancelled or killed goes on where it was, to the numbers of an uninterrupted one, exactly."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driving import finish, finish_noting
from tests.families import tiny_model
from worker.editing.hparams import CovarianceHparams
from worker.models.loaded import LoadedModel
from worker.statistics import hub, windows
from worker.statistics.store import StatisticsStore

TOKENS = 1000
LAYERS = [1, 3]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 12)
    monkeypatch.setattr(hub, "_stream", lambda _: [{"text": f"Lionel Messi plays {n}. " * 9} for n in range(200)])


def _store(folder: Path, **options: Any) -> StatisticsStore:
    corpus = folder.parent / "corpus.txt"
    corpus.write_text("".join(f"The Eiffel Tower {n} is in the city of Paris.\n" for n in range(200)))
    loaded: LoadedModel = tiny_model("llama")
    return StatisticsStore(loaded, "base", folder, corpus, **options)


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: np.load(path)["mom2.mom2"].tobytes() for path in folder.glob("*.npz")}


def _hparams(dataset: str) -> CovarianceHparams:
    return CovarianceHparams.model_validate({"mom2_dataset": dataset, "mom2_n_tokens": TOKENS})


def _until(steps: Any, tokens: int) -> None:
    while next(steps).step < tokens:
        pass


@pytest.mark.parametrize("dataset", ["self", "corpus", "wikipedia"])
def test_a_cancelled_pass_goes_on(dataset: str, tmp_path: Path) -> None:
    hparams = _hparams(dataset)
    finish(_store(tmp_path / "whole").prepare(LAYERS, hparams))
    steps = _store(tmp_path / "parts").prepare(LAYERS, hparams)
    _until(steps, 300)
    steps.close()
    assert len(list((tmp_path / "parts").glob("*.partial"))) == 2
    _, seen = finish_noting(_store(tmp_path / "parts").prepare(LAYERS, hparams))
    assert min(step.step for step in seen if step.step) == 384, "after four of eleven batches"
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")
    assert len(_content(tmp_path / "whole")) == 2
    assert not list((tmp_path / "parts").glob("*.partial"))


def test_a_pass_that_is_cancelled_while_text_is_written_goes_on(tmp_path: Path) -> None:
    finish(_store(tmp_path / "whole").prepare(LAYERS, _hparams("self")))
    for steps_before in (1, 5, 14):
        steps = _store(tmp_path / "parts").prepare(LAYERS, _hparams("self"))
        for _ in range(steps_before):
            next(steps)
        steps.close()
    finish(_store(tmp_path / "parts").prepare(LAYERS, _hparams("self")))
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")


def test_a_pass_that_is_cancelled_between_two_files_goes_on(tmp_path: Path) -> None:
    finish(_store(tmp_path / "whole").prepare(LAYERS, _hparams("corpus")))
    steps = _store(tmp_path / "parts").prepare(LAYERS, _hparams("corpus"))
    while len(_content(tmp_path / "parts")) == 0:
        next(steps)
    steps.close()
    assert len(_content(tmp_path / "parts")) == 1
    _, seen = finish_noting(_store(tmp_path / "parts").prepare(LAYERS, _hparams("corpus")))
    assert {step.step for step in seen} == {0, TOKENS}, "the text is only skipped"
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")


def test_other_layers_may_join_or_leave(tmp_path: Path) -> None:
    finish(_store(tmp_path / "whole").prepare([0, 1, 3], _hparams("corpus")))
    for layers, tokens in ((LAYERS, 300), ([0, 3], 200)):
        steps = _store(tmp_path / "parts").prepare(layers, _hparams("corpus"))
        _until(steps, tokens)
        steps.close()
    finish(_store(tmp_path / "parts").prepare([0, 1, 3], _hparams("corpus")))
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")


def test_a_pass_that_fails_keeps_what_was_saved_before(tmp_path: Path) -> None:
    """Whatever a step raises, what it was doing is not trusted."""
    store = _store(tmp_path / "parts", save_seconds=0.0)
    steps = store.prepare(LAYERS, _hparams("corpus"))
    _until(steps, 300)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    finish(_store(tmp_path / "parts").prepare(LAYERS, _hparams("corpus")))
    finish(_store(tmp_path / "whole").prepare(LAYERS, _hparams("corpus")))
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")


def test_saving_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a batch takes 1 s and a save 2 s."""
    now = [0.0]
    monkeypatch.setattr("worker.statistics.store.time.monotonic", lambda: now[0])
    saved: list[float] = []

    def save(*_: Any) -> None:
        saved.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr("worker.statistics.files.write_partial", save)
    steps = _store(tmp_path / "parts", save_seconds=3.0).prepare(
        [1], _hparams("corpus").model_copy(update={"mom2_n_tokens": 2500})
    )
    for _ in steps:
        now[0] += 1.0
    assert saved[0] == 4.0, "the file was hashed first"
    assert len(saved) == 1, "the next would be due after 20 times as long as the first one took"


SCRIPT = """
import sys
from pathlib import Path
from tests.worker.statistics.test_resuming import _hparams, _store, LAYERS
from worker.statistics import store, windows
windows.WINDOW = 12
store.SAVE_SHARE = 0
for step in _store(Path(sys.argv[1]), save_seconds=0.0).prepare(LAYERS, _hparams("corpus")):
    print(step.step, flush=True)
    if step.step >= 480:
        import time; time.sleep(600)
"""


def test_a_killed_pass_goes_on(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "parts")]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 480:
            pass
        process.send_signal(signal.SIGKILL)
    assert _content(tmp_path / "parts") == {}
    _, seen = finish_noting(_store(tmp_path / "parts").prepare(LAYERS, _hparams("corpus")))
    assert min(step.step for step in seen if step.step) == 480, (
        "saved after every batch; skipped batches show it at once"
    )
    finish(_store(tmp_path / "whole").prepare(LAYERS, _hparams("corpus")))
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")
