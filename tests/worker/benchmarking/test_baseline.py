"""What a benchmark's drift is measured from: the revision that the edits were made on, not what that has drifted."""

from pathlib import Path
from typing import Any

import pytest

from service.contracts.benchmarks import MethodResult
from tests.worker.benchmarking.kit import FAST, request, run
from tests.worker.engine.kit import Stand, random_delta

TINY = {"method": "ft-l", "hparams": {"layers": [1], "num_steps": 2, "lr": 1e-9, "weight_decay": 0, "kl_factor": 0}}
"""Edits that change next to nothing."""


def on(stand: Stand, folder: Path, revision: int, method: str | dict[str, Any], **fields: Any) -> MethodResult:
    return run(stand, folder / f"{revision}", request(method, n=2, **fields), revision).methods[0]


@pytest.mark.parametrize("mode", ["single", "batch", "sequential"])
def test_edits_of_next_to_nothing_have_no_drift_on_any_revision(stand: Stand, tmp_path: Path, mode: str) -> None:
    stand.commit(random_delta(stand.loaded, 1, 2))
    own = stand.history.measured_drift(stand.history.state)
    assert abs(own.perplexity_ratio - 1) > 0.01
    for revision in (0, 1):
        method = on(stand, tmp_path, revision, TINY, mode=mode)
        assert method.perplexity_ratio == pytest.approx(1, abs=1e-4)
        assert method.kl == pytest.approx(0, abs=1e-5)
        for point in method.checkpoints:
            assert point.drift.norms.keys() == {1}, "layer 2 is as it was"
            assert 0 < point.drift.norms[1] < 1e-5


def test_on_the_base_it_is_the_drift_that_a_commit_would_have(stand: Stand, tmp_path: Path) -> None:
    hparams = {"method": "rome", "hparams": FAST}
    (point,) = on(stand, tmp_path, 0, hparams, mode="sequential", batch_size=2, checkpoints=1).checkpoints
    assert point.drift.perplexity_ratio != 1
    stand.commit(random_delta(stand.loaded, 2))
    (again,) = on(stand, tmp_path / "later", 0, hparams, mode="sequential", batch_size=2, checkpoints=1).checkpoints
    assert again.drift == point.drift, "wherever the head is"
