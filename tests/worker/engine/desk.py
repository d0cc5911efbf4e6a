"""An editor on a tiny model's engine, and edits that have been taken up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from service.contracts.edits import BatchRequest, Edit, EditRequest, EditStatus
from service.contracts.model import NO_CEILINGS, Ceilings
from service.contracts.revisions import Revision
from service.errors import ProblemError
from tests.driving import finish
from tests.families import LAYERS
from tests.worker.engine.kit import Stand, overridden
from worker.editing.method import Method, discover
from worker.editing.progress import Steps
from worker.engine.editor import Editor
from worker.engine.verdict import Uncommitted
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
MEMIT: dict[str, Any] = {
    **DEFAULTS,
    "layers": [1, 2],
    "mom2_n_tokens": 1200,
    "mom2_update_weight": 1.0,
}
BATCH: list[dict[str, Any]] = [
    {**FACT, "target_true": "football", "paraphrases": ["The sport of Lionel Messi is"], "neighborhood": ["The city"]},
    {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"},
    {"prompt": "Michael Jordan plays", "subject": "Michael Jordan", "target_new": "football"},
]
"""Facts of different lengths, with and without what else may be asked."""
DIRECT: list[dict[str, Any]] = [
    {"prompt": "The sport of Lionel Messi", "subject": "Lionel Messi", "target_new": "Messi"},
    {"prompt": "Yes, the capital of Russia", "subject": "Russia", "target_new": "plays"},
    {"prompt": "Question: What does he play? Michael Jordan", "subject": "Michael Jordan", "target_new": "football"},
]
"""Facts that a random model can be made to say: the target is one token, and follows the subject."""


def committed(end: Revision | Uncommitted) -> Revision:
    """The revision that an edit made."""
    assert isinstance(end, Revision)
    return end


class Desk:
    """An editor on an engine, and edits that have been taken up."""

    def __init__(self, stand: Stand, folder: Path, corpus: Path | None = None) -> None:
        self.stand = stand
        self.statistics = folder / "statistics"
        self.store = StatisticsStore(stand.loaded, stand.resident.base_checksum, self.statistics, corpus)
        self.editor = self.editor_of()

    def editor_of(
        self,
        methods: Mapping[str, Method] | None = None,
        defaults: Callable[[str], Mapping[str, Any] | None] = {"rome": DEFAULTS, "memit": MEMIT}.get,
        compute_dtype: torch.dtype | None = None,
        ceilings: Ceilings = NO_CEILINGS,
    ) -> Editor:
        """An editor on this engine: by default with all methods, and values for two."""
        return Editor(self.stand.history, methods or discover(), defaults, self.store, compute_dtype, ceilings)

    def take_up(self, **fields: Any) -> Edit:
        request = BatchRequest if "facts" in fields else EditRequest
        given = fields if "facts" in fields else {**FACT, **fields}
        edit_id, _ = self.stand.edits.create(request.model_validate(given))
        assert self.stand.edits.take_up(edit_id)
        return self.stand.edits.get(edit_id)

    def begin(self, **fields: Any) -> tuple[Edit, Steps[Revision | Uncommitted]]:
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
