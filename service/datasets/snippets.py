"""CounterFact's reference texts: the Wikipedia snippets that its authors publish beside it, by relation and target."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from service.items import items
from service.wording import field_errors

Snippets = Mapping[tuple[str, str], tuple[str, ...]]
"""By the relation's id and the target's: texts about subjects of which that target is true."""


class _Sample(BaseModel):
    text: str


class _Entry(BaseModel):
    relation_id: str
    target_id: str
    samples: tuple[_Sample, ...]


def parse_snippets(text: str) -> Snippets:
    """The content of attribute_snippets.json; ValueError names the entry that is wrong."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for line, value in items(text):
        try:
            entry = TypeAdapter(_Entry).validate_python(value)
        except ValidationError as error:
            first = next(iter(field_errors(error.errors())))
            raise ValueError(f"line {line}: {first.field or 'the entry'}: {first.detail}") from None
        key = (entry.relation_id, entry.target_id)
        found[key] = found.get(key, ()) + tuple(sample.text for sample in entry.samples if sample.text.strip())
    return found


def with_references(value: Any, snippets: Snippets) -> Any:
    """A decoded CounterFact record with the texts about its target_new, where it names one that has any."""
    rewrite = value.get("requested_rewrite") if isinstance(value, dict) else None
    target = rewrite.get("target_new") if isinstance(rewrite, dict) else None
    if not isinstance(rewrite, dict) or not isinstance(target, dict):
        return value
    texts = snippets.get((str(rewrite.get("relation_id")), str(target.get("id"))))
    return {**value, "reference_texts": texts} if texts else value
