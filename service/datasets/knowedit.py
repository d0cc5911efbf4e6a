"""KnowEdit: its sub-sets ZsRE, WikiData counterfact and recent, and WikiBio, which names its fields otherwise."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, Field

from service.contracts.records import Record
from service.datasets.building import answered, built, differing, leaves, shaped
from service.items import Wrong


class _Question(BaseModel):
    prompt: str
    ground_truth: Any


_Groups = dict[str, tuple[_Question, ...] | None]


class _Raw(BaseModel):
    prompt: Annotated[str, Field(validation_alias=AliasChoices("prompt", "text"))]
    # EasyEdit takes subjects with white space around them; in the prompt they stand without it.
    subject: Annotated[str, Field(validation_alias=AliasChoices("subject", "concept")), AfterValidator(str.strip)]
    target_new: Annotated[str, Field(validation_alias=AliasChoices("target_new", "labels"))]
    rephrase_prompt: Annotated[str | None, Field(validation_alias=AliasChoices("rephrase_prompt", "rephrase"))] = None
    ground_truth: Any = None
    locality: _Groups = Field(default_factory=dict)
    portability: _Groups = Field(default_factory=dict)


def record(value: Any, index: int) -> Record | Wrong:
    """A record whose groups keep their names, in small letters; a question without an answer is left out, as there."""
    raw = shaped(_Raw, value)
    if isinstance(raw, Wrong):
        return raw
    names = _own_names(value)
    fact: dict[str, Any] = {
        "prompt": raw.prompt,
        "subject": raw.subject,
        "target_new": raw.target_new,
        "target_true": differing(next(leaves(raw.ground_truth), None), raw.target_new),
        "paraphrases": [raw.rephrase_prompt] if raw.rephrase_prompt else [],
    }
    for kind, groups in (("locality", raw.locality), ("portability", raw.portability)):
        fact[kind] = {name.lower(): list(_questions(f"{kind}.{name}", groups[name] or (), names)) for name in groups}
    return built({"case_id": index, "facts": [fact]}, names)


def _own_names(value: Mapping[str, Any]) -> dict[str, str]:
    """Where a Fact's fields are in this record."""
    others = {"prompt": "text", "subject": "concept", "target_new": "labels"}
    names = {f"facts[0].{ours}": ours if ours in value else theirs for ours, theirs in others.items()}
    rephrase = "rephrase_prompt" if "rephrase_prompt" in value else "rephrase"
    return {**names, "facts[0].paraphrases[0]": rephrase, "facts[0].target_true": "ground_truth", "facts[0]": ""}


def _questions(place: str, questions: tuple[_Question, ...], names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Those that have an answer."""
    kept = 0
    for index, question in enumerate(questions):
        found = answered(question.prompt, question.ground_truth)
        if found is None:
            continue
        ours = f"facts[0].{place.lower()}[{kept}]"
        names[ours] = f"{place}[{index}]"
        names[f"{ours}.answer"] = names[f"{ours}.aliases"] = f"{place}[{index}].ground_truth"
        kept += 1
        yield found
