"""zsRE in MEND's form, edited towards `alt` as EasyEdit does, or towards the true answer as kmeng01's code does."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.contracts.records import Record
from service.datasets.building import built, differing, shaped
from service.items import Wrong

NAMES = {
    "facts[0].prompt": "src",
    "facts[0].paraphrases[0]": "rephrase",
    "facts[0].locality.neighborhood[0].prompt": "loc",
    "facts[0].locality.neighborhood[0].answer": "loc_ans",
    "facts[0].portability.one_hop[0].prompt": "portability.New Question",
    "facts[0].portability.one_hop[0].answer": "portability.New Answer",
    "facts[0]": "",
}


class _Portability(BaseModel):
    question: Annotated[str, Field(alias="New Question")]
    answer: Annotated[str, Field(alias="New Answer")]


class _Raw(BaseModel):
    subject: str
    src: str
    rephrase: str
    alt: str
    answers: Annotated[tuple[str, ...], Field(min_length=1)]
    loc: str
    loc_ans: str
    portability: _Portability | None = None


def towards_alt(value: Any, index: int) -> Record | Wrong:
    """EasyEdit's choice: a counterfactual target; `loc` stands as it is."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    fact = _fact(raw, raw.alt, raw.loc)
    fact["target_true"] = differing(raw.answers[0], raw.alt)
    if raw.portability:
        fact["portability"] = {"one_hop": [{"prompt": raw.portability.question, "answer": raw.portability.answer}]}
    return built({"case_id": index, "facts": [fact]}, {**NAMES, "facts[0].target_new": "alt"})


def towards_answer(value: Any, index: int) -> Record | Wrong:
    """kmeng01's choice: the true answer, and `loc` with a question mark. Portability would follow from `alt`."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    fact = _fact(raw, raw.answers[0], raw.loc + "?")
    return built({"case_id": index, "facts": [fact]}, {**NAMES, "facts[0].target_new": "answers[0]"})


def _fact(raw: _Raw, target: str, loc: str) -> dict[str, Any]:
    return {
        "prompt": raw.src,
        "subject": raw.subject,
        "target_new": target,
        "paraphrases": [raw.rephrase],
        "locality": {"neighborhood": [{"prompt": loc, "answer": raw.loc_ans}]},
    }
