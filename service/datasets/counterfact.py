"""CounterFact as the authors of ROME and MEMIT publish it, and condensed to one prompt of each kind as in EasyEdit."""

from typing import Any

from pydantic import BaseModel

from service.contracts.records import Record
from service.datasets.building import REWRITE_NAMES, Rewrite, built, differing, shaped
from service.items import Wrong

NAMES = {
    **{f"facts[0].{name}": f"requested_rewrite.{theirs}" for name, theirs in REWRITE_NAMES.items()},
    "facts[0].paraphrases": "paraphrase_prompts",
    "facts[0].neighborhood": "neighborhood_prompts",
}

CONDENSED_NAMES = {
    "facts[0].target_true": "ground_truth",
    "facts[0].paraphrases[0]": "rephrase_prompt",
    "facts[0].neighborhood[0]": "locality_prompt",
    "facts[0].locality.neighborhood[0].prompt": "locality_prompt",
    "facts[0].locality.neighborhood[0].answer": "locality_ground_truth",
    "facts[0]": "",
}


class _Raw(BaseModel):
    case_id: int | None = None
    requested_rewrite: Rewrite
    paraphrase_prompts: tuple[str, ...] = ()
    neighborhood_prompts: tuple[str, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    reference_texts: tuple[str, ...] = ()


class _Condensed(BaseModel):
    case_id: int | None = None
    prompt: str
    subject: str
    target_new: str
    ground_truth: str
    rephrase_prompt: str
    locality_prompt: str
    locality_ground_truth: str


def record(value: Any, index: int) -> Record | Wrong:
    """A record in the original schema; its attribute_prompts are of no score; `reference_texts` may stand beside."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    fact = {
        **raw.requested_rewrite.fact(),
        "paraphrases": raw.paraphrase_prompts,
        "neighborhood": raw.neighborhood_prompts,
    }
    fields = {
        "case_id": index if raw.case_id is None else raw.case_id,
        "facts": [fact],
        "generation_prompts": raw.generation_prompts,
        "reference_texts": raw.reference_texts,
    }
    return built(fields, NAMES)


def condensed(value: Any, index: int) -> Record | Wrong:
    """A record of EasyEdit's one-line form; a neighbour whose answer is target_true is a neighbour as in the papers."""
    raw = shaped(_Condensed, value)
    if isinstance(raw, Wrong):
        return raw
    neighbor = raw.locality_ground_truth.strip() == raw.ground_truth.strip()
    fact = {
        "prompt": raw.prompt,
        "subject": raw.subject,
        "target_new": raw.target_new,
        "target_true": differing(raw.ground_truth, raw.target_new),
        "paraphrases": [raw.rephrase_prompt],
        "neighborhood": [raw.locality_prompt] if neighbor else [],
        "locality": {"neighborhood": [{"prompt": raw.locality_prompt, "answer": raw.locality_ground_truth}]},
    }
    return built({"case_id": index if raw.case_id is None else raw.case_id, "facts": [fact]}, CONDENSED_NAMES)
