"""The project's own form: the fields of one fact, and those of its record beside them."""

from typing import Any

from service.contracts.edits import Fact
from service.contracts.records import Record
from service.datasets.building import built, shaped
from service.items import Wrong

BESIDE = ("multi_hop", "generation_prompts", "reference_texts")


def record(value: Any, index: int) -> Record | Wrong:
    """A record of one fact; `case_id` is its place in the file unless it says another."""
    if not isinstance(value, dict):
        return Wrong.because("must be an object")
    fact = shaped(Fact, {name: part for name, part in value.items() if name not in (*BESIDE, "case_id")})
    if isinstance(fact, Wrong):
        return fact
    beside = {name: value[name] for name in BESIDE if name in value}
    return built({"case_id": value.get("case_id", index), "facts": [fact], **beside}, {})
