"""The forms that records come in, and by which of its fields a record shows its own."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from service.contracts.records import Record
from service.datasets import counterfact, knowedit, known, mquake, own, zsre
from service.items import Wrong

Reader = Callable[[Any, int], Record | Wrong]
"""From a decoded value and its place in the file (the first is 0) to a record."""

FORMS: Mapping[str, Reader] = MappingProxyType(
    {
        "own": own.record,
        "counterfact": counterfact.record,
        "counterfact-condensed": counterfact.condensed,
        "zsre": zsre.towards_alt,
        "zsre-answers": zsre.towards_answer,
        "knowedit": knowedit.record,
        "mquake": mquake.record,
        "known": known.record,
    }
)

KNOWEDIT_MARKS = {"ground_truth", "rephrase_prompt", "labels", "concept"}


def form_of(value: Any) -> str | None:
    """The form that the value shows by its fields; None where it shows none. `zsre-answers` has to be asked for."""
    if not isinstance(value, dict):
        return None
    if "requested_rewrite" in value:
        return "mquake" if isinstance(value["requested_rewrite"], list) else "counterfact"
    for mark, form in (("src", "zsre"), ("known_id", "known"), ("locality_prompt", "counterfact-condensed")):
        if mark in value:
            return form
    if value.keys() & KNOWEDIT_MARKS or any(map(_in_knowedit, (value.get("locality"), value.get("portability")))):
        return "knowedit"
    return "own" if {"prompt", "target_new"} <= value.keys() else None


def _in_knowedit(groups: Any) -> bool:
    lists = groups.values() if isinstance(groups, dict) else ()
    questions = (question for group in lists if isinstance(group, list) for question in group)
    return any(isinstance(question, dict) and "ground_truth" in question for question in questions)


def read_value(value: Any, index: int = 0, form: str | None = None) -> Record | Wrong:
    """The record that a decoded value is, in the form given or else in the one that it shows."""
    return value if isinstance(value, Wrong) else FORMS[form or form_of(value) or "own"](value, index)
