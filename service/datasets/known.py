"""known_1000: the facts of ROME's causal tracing, each with the attribute that GPT-2 XL answers."""

from typing import Any

from pydantic import BaseModel

from service.contracts.records import Record
from service.datasets.building import built, shaped
from service.items import Wrong

NAMES = {"facts[0].target_new": "attribute", "case_id": "known_id", "facts[0]": ""}


class _Raw(BaseModel):
    known_id: int | None = None
    subject: str
    prompt: str
    attribute: str


def record(value: Any, index: int) -> Record | Wrong:
    """A record whose attribute stands as target_new: nothing is to be changed, and this is what it should say."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    fact = {"prompt": raw.prompt, "subject": raw.subject, "target_new": raw.attribute}
    return built({"case_id": index if raw.known_id is None else raw.known_id, "facts": [fact]}, NAMES)
