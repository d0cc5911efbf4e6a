"""MQuAKE: several facts that are edited together, and questions whose answer follows from all of them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.contracts.records import Record
from service.datasets.building import REWRITE_NAMES, Rewrite, built, shaped
from service.items import Wrong


class _Rewrite(Rewrite):
    question: str | None = None


class _Raw(BaseModel):
    case_id: int | None = None
    requested_rewrite: Annotated[tuple[_Rewrite, ...], Field(min_length=1)]
    questions: Annotated[tuple[str, ...], Field(min_length=1)]
    new_answer: str
    new_answer_alias: tuple[str, ...] = ()


def record(value: Any, index: int) -> Record | Wrong:
    """A record of MQuAKE-CF; the question form of each fact is its paraphrase."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    facts = [
        {**rewrite.fact(), "paraphrases": [rewrite.question] if rewrite.question else []}
        for rewrite in raw.requested_rewrite
    ]
    hops = [
        {"prompt": question, "answer": raw.new_answer, "aliases": raw.new_answer_alias[:100]}
        for question in raw.questions
    ]
    case_id = index if raw.case_id is None else raw.case_id
    return built({"case_id": case_id, "facts": facts, "multi_hop": hops}, _names(len(facts), len(hops)))


def _names(facts: int, hops: int) -> dict[str, str]:
    names = {}
    for at in range(facts):
        for name, theirs in REWRITE_NAMES.items():
            names[f"facts[{at}].{name}"] = f"requested_rewrite[{at}].{theirs}"
        names[f"facts[{at}].paraphrases[0]"] = f"requested_rewrite[{at}].question"
    for at in range(hops):
        names[f"multi_hop[{at}].prompt"] = f"questions[{at}]"
        names[f"multi_hop[{at}].answer"] = "new_answer"
        names[f"multi_hop[{at}].aliases"] = "new_answer_alias"
    return names
