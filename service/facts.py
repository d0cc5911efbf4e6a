"""Reads the facts of a batch from text: JSON lines or one JSON array, of our own facts or of CounterFact's records."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from service.contracts.edits import MOST_FACTS, Fact, contradictions
from service.contracts.problem import FieldError
from service.wording import field_errors

MAX_ERRORS = 20
"""Errors named at once."""

COUNTERFACT_NAMES = {
    "prompt": "requested_rewrite.prompt",
    "subject": "requested_rewrite.subject",
    "target_new": "requested_rewrite.target_new.str",
    "target_true": "requested_rewrite.target_true.str",
    "paraphrases": "paraphrase_prompts",
    "neighborhood": "neighborhood_prompts",
}
"""What a CounterFact record calls the fields of a fact."""


@dataclass(frozen=True)
class LineError:
    """A line that is wrong (the first is 1), the field in it, if any, and what to do about it."""

    line: int
    field: str
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.detail}" if self.field else f"line {self.line}: {self.detail}"


class FactsError(Exception):
    """The text does not hold facts; `errors` say where, and what to do."""

    def __init__(self, errors: Iterable[LineError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


def decode(data: bytes) -> str:
    """The text of a file in UTF-8; FactsError if it is something else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FactsError([LineError(line, "", "is not UTF-8; save the file in UTF-8")]) from None


def parse(text: str) -> tuple[Fact, ...]:
    """All facts of the text, in order; FactsError names every line that is wrong, with up to MAX_ERRORS errors."""
    text = text.removeprefix("\ufeff")
    begin = _skip_blank(text, 0)
    items = _elements(text, begin + 1) if text.startswith("[", begin) else _lines(text)
    facts: list[Fact] = []
    lines: list[int] = []
    errors: list[LineError] = []
    for line, item in _numbered(text, items):
        fact = item if isinstance(item, _Wrong) else _fact(item)
        if isinstance(fact, _Wrong):
            errors += (LineError(line, error.field, error.detail) for error in fact.errors)
        else:
            facts.append(fact)
            lines.append(line)
        if len(errors) >= MAX_ERRORS:
            break
    errors = errors or list(_wrong_together(facts, lines))
    if errors:
        raise FactsError(errors[:MAX_ERRORS])
    return tuple(facts)


@dataclass(frozen=True)
class _Wrong:
    """Stands where a value or a fact should be."""

    errors: Sequence[FieldError]

    @classmethod
    def because(cls, detail: str) -> "_Wrong":
        return cls([FieldError(field="", detail=detail)])


def _wrong_together(facts: Sequence[Fact], lines: Sequence[int]) -> Iterator[LineError]:
    if not facts:
        yield LineError(1, "", "there is no fact here; write one JSON object a line, or a JSON array of them")
    if len(facts) > MOST_FACTS:
        many = f"has fact {MOST_FACTS + 1}, and one batch takes {MOST_FACTS}; split the file"
        yield LineError(lines[MOST_FACTS], "", many)
    for earlier, later in contradictions(facts):
        where = f"contradicts line {lines[earlier]} after the same prompt; keep one of the two"
        yield LineError(lines[later], "target_new", where)


def _numbered(text: str, items: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Items by line instead of offset."""
    line, counted = 1, 0
    for at, item in items:
        line, counted = line + text.count("\n", counted, at), at
        yield line, item


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """The value of each line that is not blank, by its offset. Inside strings JSON allows all line ends but \n, \r."""
    begin = 0
    for line in text.split("\n"):
        at = _skip_blank(line, 0)
        if at < len(line):
            yield begin, _only_value(line, at)
        begin += len(line) + 1


def _only_value(line: str, at: int) -> Any:
    value, end = _value(line, at)
    rest = _skip_blank(line, end)
    if isinstance(value, _Wrong) or rest == len(line):
        return value
    if line[rest:].strip() == ",":
        return _Wrong.because("ends with a comma; remove it, or make the file an array in [ ]")
    return _Wrong.because(f"has something behind its object, at column {rest + 1}; write one object a line")


def _elements(text: str, at: int) -> Iterator[tuple[int, Any]]:
    """The elements of an array, by their offsets, from behind its opening bracket; what is no JSON ends it."""
    at = _skip_blank(text, at)
    more = not text.startswith("]", at)
    while more:
        if text.startswith("]", at):
            yield at, _Wrong.because("has a comma before the closing ]; remove it")
            return
        value, end = _value(text, at)
        if isinstance(value, _Wrong):
            yield end, value
            return
        yield at, value
        at = _skip_blank(text, end)
        more = text.startswith(",", at)
        at = _skip_blank(text, at + more)
    if not text.startswith("]", at):
        yield at, _Wrong.because("needs a comma or the closing ] behind the fact before")
    elif (rest := _skip_blank(text, at + 1)) < len(text):
        yield rest, _Wrong.because("has something behind the closing ]; remove it")


def _value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at an offset, and the offset of its end; or what is wrong, and where."""
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except json.JSONDecodeError as error:
        column = error.pos - text.rfind("\n", 0, error.pos)
        return _Wrong.because(f"is not JSON: {error.msg.removesuffix(' at')}, column {column}"), error.pos
    except RecursionError:
        return _Wrong.because("is nested too deeply; a fact is one flat object"), at
    except ValueError:
        return _Wrong.because("has a number with too many digits; a fact is made of texts"), at


def _skip_blank(text: str, at: int) -> int:
    """The offset of the first character from `at` on that is not white space to JSON."""
    while text.startswith((" ", "\t", "\r", "\n"), at):
        at += 1
    return at


def _fact(value: Any) -> Fact | _Wrong:
    if isinstance(value, dict) and "requested_rewrite" in value:
        return _counterfact(value)
    try:
        return Fact.model_validate(value)
    except ValidationError as error:
        return _Wrong(list(field_errors(error.errors())))


def _with_slot(prompt: str) -> str:
    if "{}" not in prompt:
        raise ValueError("must have {} where the subject belongs")
    return prompt


class _Target(BaseModel):
    text: Annotated[str, Field(alias="str")]


class _Rewrite(BaseModel):
    prompt: Annotated[str, AfterValidator(_with_slot)]
    subject: str
    target_new: _Target
    target_true: _Target | None = None


class _Record(BaseModel):
    """A CounterFact record as the authors of ROME and MEMIT publish it; what else it has is not needed."""

    requested_rewrite: _Rewrite
    paraphrase_prompts: tuple[str, ...] = ()
    neighborhood_prompts: tuple[str, ...] = ()


def _counterfact(value: Any) -> Fact | _Wrong:
    try:
        record = _Record.model_validate(value)
    except ValidationError as error:
        return _Wrong(list(field_errors(error.errors())))
    rewrite = record.requested_rewrite
    fact = _fact(
        {
            "prompt": rewrite.prompt.replace("{}", rewrite.subject),
            "subject": rewrite.subject,
            "target_new": rewrite.target_new.text,
            "target_true": rewrite.target_true.text if rewrite.target_true else None,
            "paraphrases": record.paraphrase_prompts,
            "neighborhood": record.neighborhood_prompts,
        }
    )
    return _Wrong([_renamed(error) for error in fact.errors]) if isinstance(fact, _Wrong) else fact


def _renamed(error: FieldError) -> FieldError:
    name, bracket, index = error.field.partition("[")
    return FieldError(field=COUNTERFACT_NAMES.get(name, name) + bracket + index, detail=error.detail)
