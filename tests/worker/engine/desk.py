"""An editor on a tiny model's engine, and edits that have been taken up."""

from pathlib import Path
from typing import Any

import pytest

from service.contracts.edits import Edit, EditRequest, EditStatus
from service.contracts.revisions import Revision
from service.errors import ProblemError
from tests.driving import finish
from tests.families import LAYERS
from tests.worker.engine.kit import Stand, overridden
from worker.editing.method import discover
from worker.editing.progress import Steps
from worker.engine.editor import Editor
from worker.errors import EditError
from worker.statistics.store import StatisticsStore

FACT = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"}
DEFAULTS: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 6,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "context_template_length_params": [[4, 3]],
}


class Desk:
    """An editor on an engine, and edits that have been taken up."""

    def __init__(self, stand: Stand, folder: Path, corpus: Path | None = None) -> None:
        self.stand = stand
        self.statistics = folder / "statistics"
        store = StatisticsStore(stand.loaded, stand.resident.base_checksum, self.statistics, corpus)
        self.editor = Editor(stand.history, discover(), {"rome": DEFAULTS}.get, store)

    def take_up(self, **fields: Any) -> Edit:
        edit_id, _ = self.stand.edits.create(EditRequest.model_validate({**FACT, **fields}))
        assert self.stand.edits.take_up(edit_id)
        return self.stand.edits.get(edit_id)

    def begin(self, **fields: Any) -> tuple[Edit, Steps[Revision]]:
        edit = self.take_up(**fields)
        return edit, self.editor.run(edit.id, edit.request)

    def run(self, **fields: Any) -> Edit:
        edit, steps = self.begin(**fields)
        finish(steps)
        return self.stand.edits.get(edit.id)

    def refused(self, **fields: Any) -> ProblemError | EditError:
        """The error that an edit ends with, having changed nothing."""
        before = self.stand.state()
        edit, steps = self.begin(**fields)
        errors: tuple[type[Exception], ...] = (ProblemError, EditError)
        with pytest.raises(errors) as raised:
            finish(steps)
        assert self.stand.state() == before
        assert self.stand.edits.get(edit.id).status is EditStatus.RUNNING
        assert overridden(self.stand.loaded) == []
        assert isinstance(raised.value, ProblemError | EditError)
        return raised.value
