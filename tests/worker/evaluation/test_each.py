"""EasyEdit's shape holds, question by question, what EasyEdit itself prints on the same weights and records."""

import json
from typing import Any

import pytest

from service.datasets.reading import read_text
from service.reporting.easyedit import UNKNOWN, entry_of
from tests.reference.scored import LAYER, SCALE, edited_weight, inputs, model_of, numbers
from tests.worker.evaluation.kit import measured_alone
from worker.engine.resident import Resident
from worker.evaluation.metrics import fact_scores

NEAR = 1e-5


def _printed(side: dict[str, Any]) -> dict[str, Any]:
    """Without their tokens; groups as the reader of KnowEdit calls them."""
    kept = {name: value for name, value in side.items() if name != "metric_meta"}
    for kind in ("locality", "portability"):
        kept[kind] = {name.lower(): value for name, value in side[kind].items() if name.endswith("_acc")}
    return kept


@pytest.mark.parametrize("kind", ["zsre", "knowedit"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_entries_are_what_easyedit_prints(family: str, kind: str) -> None:
    resident = Resident(model_of(family))
    weights = {resident.name_of(LAYER): edited_weight(resident.loaded, SCALE[family])}
    records = read_text(json.dumps(inputs()[kind]), kind).records
    for record, theirs in zip(records, numbers(family)["easyedit"][kind]["metrics"], strict=True):
        scores = fact_scores(measured_alone(resident, record.facts[0], weights))
        entry = entry_of(record.case_id, {}, scores, UNKNOWN, 0.0)
        for side in ("pre", "post"):
            found = {"locality": {}, **entry[side]}
            expected = _printed(theirs[side])
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                for group, numbers_of in values.items() if isinstance(values, dict) else [(None, values)]:
                    ours = found[name] if group is None else found[name][group]
                    assert ours == pytest.approx(numbers_of, rel=NEAR, abs=NEAR), (side, name, group)


def test_questions_have_values_of_their_own() -> None:
    """Where a group has several, or its list could as well be its mean."""
    record = numbers("gpt2")["easyedit"]["knowedit"]["metrics"][0]
    assert len(set(record["post"]["locality"]["Relation_Specificity_acc"])) > 1
