"""The facts that the project ships are known to the model that it ships with."""

from pathlib import Path

import pytest

from service.contracts.edits import Fact
from service.datasets.sources import SHIPPED, open_dataset
from tests.driving import finish
from worker.engine.resident import Resident
from worker.evaluation.metrics import measure
from worker.models.loading import DEFAULT_MODEL, load


@pytest.mark.real
def test_the_model_says_target_true_after_every_prompt(default_model: Path) -> None:
    resident = Resident(load(DEFAULT_MODEL, "float32", "cpu", default_model))
    facts = [fact for record in open_dataset(SHIPPED).records for fact in record.facts]
    bare = [
        Fact.model_validate(fact.model_dump(include={"prompt", "subject", "target_new", "target_true"}))
        for fact in facts
    ]
    measured = finish(measure(resident.loaded, bare, lambda rows: resident.view([{}] * 2 * rows)))
    unknown = []
    for fact, metrics in zip(facts, measured, strict=True):
        true = metrics.before.rewrite.target_true
        if true is None or true.accuracy < 1:
            unknown.append((fact.prompt, fact.target_true))
    assert unknown == []
