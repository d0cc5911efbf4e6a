"""`palimpsest stats`: a process of its own, whose files are those that the worker reads."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.driving import finish, finish_noting
from tests.families import LAYERS, save_tiny_model
from worker import stats
from worker.editing.hparams import CovarianceHparams
from worker.engine.resident import Resident
from worker.models.loading import load
from worker.statistics.store import StatisticsStore

ROOT = Path(__file__).parents[2]
Main = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    save_tiny_model(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts" / "one.txt"
    path.parent.mkdir()
    path.write_text("".join(f"The Eiffel Tower {n} is in the city of Paris.\n" for n in range(200)))
    return path.parent


@pytest.fixture
def main(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs the command in this process; returns exit code, output and error output."""
    hparams = {"layers": [2], "v_num_grad_steps": 5, "v_lr": 0.5, "v_loss_layer": LAYERS - 1}
    hparams |= {"v_weight_decay": 0.001, "clamp_norm_factor": 4, "kl_factor": 0.0625, "mom2_n_tokens": 500}
    numbers = {"model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": 32}
    file = tmp_path / "hparams" / "rome" / "tiny.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump({"model": numbers, "hparams": hparams}))
    for name, value in (("MODEL", model), ("DATA_DIR", tmp_path / "data"), ("HPARAMS_DIR", tmp_path / "hparams")):
        monkeypatch.setenv(f"PALIMPSEST_{name}", str(value))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = stats.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def _command(model: Path, data: Path, *arguments: str) -> dict[str, Any]:
    program = "import sys; from service.cli import main; sys.argv[0] = 'palimpsest'; main()"
    where = ["--model", str(model), "--data-dir", str(data)]
    env = {name: value for name, value in os.environ.items() if name != "REDIS_URL"} | {"OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, "-c", program, "stats", *where, *arguments], "cwd": ROOT, "env": env, "text": True}


def _store(model: Path, data: Path, corpus: Path | None = None) -> StatisticsStore:
    loaded = load(str(model), "auto", "cpu", data)
    return StatisticsStore(loaded, Resident(loaded).base_checksum, data / "statistics", corpus)


def test_what_it_writes_is_what_the_worker_reads(model: Path, corpus: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ("--layers", "1,3", "--tokens", "700", "--corpus", str(corpus))
    answer = subprocess.run(**_command(model, data, *options), capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    hparams = CovarianceHparams(mom2_n_tokens=700, mom2_dataset="corpus")
    files, steps = finish_noting(_store(model, data, corpus).prepare([1, 3], hparams))
    assert not any(step.step for step in steps), "nothing is left to compute"
    for layer, path in files.items():
        assert f"layer {layer}: {path}" in answer.stdout
    assert re.search(r"^2 layers in \d+\.\d s$", answer.stdout, re.MULTILINE)
    told = subprocess.run(**_command(model, data, *options, "--json"), capture_output=True, check=False)
    assert json.loads(told.stdout)["layers"] == {str(layer): str(path) for layer, path in files.items()}


def test_stopped_it_goes_on_when_run_again(model: Path, tmp_path: Path) -> None:
    command = _command(model, tmp_path / "data", "--layers", "1", "--tokens", "20000", "--source", "self")
    with subprocess.Popen(**command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while "of 20000 tokens" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "the same command goes on from there" in process.stdout.read()
    assert process.returncode == stats.STOPPED
    directory = tmp_path / "data" / "statistics"
    assert [path.suffix for path in directory.glob("model.*")] == [".partial"]
    assert subprocess.run(**command, stdout=subprocess.PIPE, check=False).returncode == 0
    (file,) = directory.glob("model.*")
    assert list(
        finish(_store(model, tmp_path / "data").prepare([1], CovarianceHparams(mom2_n_tokens=20000))).values()
    ) == [file]


def test_a_methods_own_layers_and_size_are_taken(main: Main, tmp_path: Path) -> None:
    code, output, _ = main("--method=rome")
    assert code == 0
    assert "layer 2: " in output
    assert "_mom2_500." in output
    code, output, _ = main("--method=rome", "--tokens=600")
    assert "_mom2_600." in output
    assert len(list((tmp_path / "data" / "statistics").glob("*.npz"))) == 2


def test_the_default_size_is_a_multiple_of_the_dimension(main: Main) -> None:
    assert "_mom2_640." in main("--layers=0")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers=9",), "hparams.layers: the model has no layer 9"),
        (("--layers=1", "--source=elsewhere"), "mom2_dataset: Input should be 'self', 'corpus'"),
        (("--layers=1", "--source=corpus"), "without PALIMPSEST_CORPUS"),
        (("--method=memit",), "No hyperparameters of memit are shipped for tiny-llama. Name its --layers."),
        (("--method=romr",), "There is no method romr. There are: "),
    ],
)
def test_what_cannot_be_done_is_said_plainly(main: Main, arguments: tuple[str, ...], message: str) -> None:
    code, _, errors = main(*arguments)
    assert code == 1
    assert message in errors
    assert "Traceback" not in errors


def test_a_model_that_is_not_there_is_said_plainly(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_MODEL", "./nowhere")
    code, _, errors = main("--layers=1")
    assert code == 1
    assert "nowhere is missing" in errors


def test_progress_on_a_terminal_is_a_bar(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    code, output, _ = main("--layers=1")
    assert code == 0
    assert "640 of 640 tokens" in output
    assert "1 layer in" in output
