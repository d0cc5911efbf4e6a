"""From what a file calls things to a Record, and back: an error names the field as the file has it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from service.contracts.problem import FieldError
from service.contracts.questions import MOST_QUESTIONS
from service.contracts.records import Record
from service.items import Wrong
from service.wording import field_errors

Shape = TypeVar("Shape", bound=BaseModel)

Names = Mapping[str, str]
"""What a file calls the fields of a Record: `facts[0].prompt` is `requested_rewrite.prompt`, say."""


def _with_slot(prompt: str) -> str:
    if "{}" not in prompt:
        raise ValueError("must have {} where the subject belongs")
    return prompt


class Target(BaseModel):
    """A target as kmeng01's files have it."""

    text: Annotated[str, Field(alias="str")]


class Rewrite(BaseModel):
    """A fact as kmeng01's files have it."""

    prompt: Annotated[str, AfterValidator(_with_slot)]
    subject: str
    target_new: Target
    target_true: Target | None = None

    def fact(self) -> dict[str, Any]:
        """The fields of a Fact."""
        return {
            "prompt": self.prompt.replace("{}", self.subject),
            "subject": self.subject,
            "target_new": self.target_new.text,
            "target_true": self.target_true.text if self.target_true else None,
        }


REWRITE_NAMES = {
    "prompt": "prompt",
    "subject": "subject",
    "target_new": "target_new.str",
    "target_true": "target_true.str",
}
"""Where a Fact's fields are in a Rewrite."""


def shaped(shape: type[Shape], value: Any) -> Shape | Wrong:
    """A raw record with the fields that its form has; what else it has is not needed."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        return Wrong(list(field_errors(error.errors())))


def built(fields: Mapping[str, Any], names: Names) -> Record | Wrong:
    """The record of these fields; what is wrong with it in the file's own names."""
    try:
        return Record.model_validate(fields)
    except ValidationError as error:
        return Wrong([_renamed(one, names) for one in field_errors(error.errors())])


def _renamed(error: FieldError, names: Names) -> FieldError:
    """By the longest name that the field begins with."""
    for name in sorted(names, key=len, reverse=True):
        rest = error.field.removeprefix(name)
        if error.field.startswith(name) and rest[:1] in ("", ".", "["):
            return FieldError(field=(names[name] + rest).lstrip("."), detail=error.detail)
    return error


def differing(target_true: str | None, target_new: str) -> str | None:
    """target_true, unless the file gives the same twice: then what is true is not known."""
    return None if target_true is None or target_true.strip() == target_new.strip() else target_true


def leaves(value: Any) -> Iterator[str]:
    """The texts in a text, a list, or a list of lists; blank ones are none."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from leaves(part)


def answered(prompt: str, ground_truth: Any) -> dict[str, Any] | None:
    """A Question's fields: the first of nested answers is it, the others are its aliases; None where there is none."""
    answers = list(dict.fromkeys(leaves(ground_truth)))
    return {"prompt": prompt, "answer": answers[0], "aliases": answers[1:MOST_QUESTIONS]} if answers else None
