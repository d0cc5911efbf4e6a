"""JSON Schema in words: what a field takes, its default, and tables of an object's fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
Link = Callable[[str], str]
"""Markdown that names a schema of the document, by the last part of its reference."""

RANGES = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "≥ {} characters",
    "maxLength": "≤ {} characters",
    "minItems": "≥ {} items",
    "maxItems": "≤ {} items",
}
ANY_LENGTH = ("minLength", 1)
"""What hardly any text violates, and no table need say."""

REQUIRED = "**required**"

LARGEST = 2**53
"""Whole numbers that a float still tells apart; limits beyond it say nothing to a reader."""


def name_of(reference: str) -> str:
    """The schema that `#/components/schemas/Name` or `#/$defs/Name` means; modules before it are left out."""
    return reference.rsplit("/", 1)[-1].rsplit("__", 1)[-1]


def kind(schema: Schema, link: Link) -> str:
    """What a value is: `text`, `whole number`, `list of …`, alternatives joined by "or"."""
    if "$ref" in schema:
        return link(schema["$ref"])
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(one, link) for one in schema[several]))
    return _plain(schema, link)


def _plain(schema: Schema, link: Link) -> str:
    match schema.get("type"):
        case "array":
            inside = schema.get("prefixItems")
            if inside:
                return "(" + ", ".join(kind(one, link) for one in inside) + ")"
            return f"list of {kind(schema.get('items', {}), link)}"
        case "object":
            return _object(schema, link)
        case "string":
            return {"date-time": "time", "binary": "bytes"}.get(schema.get("format", ""), "text")
        case known:
            return {"integer": "whole number", "number": "number", "boolean": "yes or no", "null": "null"}.get(
                str(known), "anything"
            )


def _object(schema: Schema, link: Link) -> str:
    patterns = schema.get("patternProperties", {})
    inside = next(iter(patterns.values()), schema.get("additionalProperties"))
    return f"object of {kind(inside, link)}" if isinstance(inside, Mapping) and inside else "object"


def limits(schema: Schema) -> str:
    """The bounds of a value or, where it may be null or something else, of the first alternative that has any."""
    found = [
        words.format(_number(schema[name]))
        for name, words in RANGES.items()
        if name in schema and (name, schema[name]) != ANY_LENGTH and abs(schema[name]) < LARGEST
    ]
    if found or "anyOf" not in schema:
        return ", ".join(found)
    return next(filter(None, map(limits, schema["anyOf"])), "")


def given(schema: Schema, link: Link) -> str:
    """As `kind`, of what a request takes: that anything left out may be null is not said each time."""
    alternatives = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return kind({**schema, "anyOf": alternatives} if alternatives else schema, link)


def fields(schema: Schema, link: Link, words: Callable[[Schema, Link], str] = kind) -> list[Sequence[str]]:
    """A row for each field of an object: name, kind, default, meaning. `words` tells the kind."""
    required = schema.get("required", ())
    return [
        (
            f"`{name}`",
            words(field, link),
            REQUIRED if name in required else default(field),
            meaning(field),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def default(schema: Schema) -> str:
    """The default as code, or nothing."""
    return code(schema["default"]) if schema.get("default") not in (None, [], {}) else ""


def meaning(schema: Schema) -> str:
    """The description and the bounds."""
    words = str(schema.get("description", "")).replace("\n", " ").replace("|", "\\|")
    return "; ".join(filter(None, (words, limits(schema))))


def code(value: object) -> str:
    """A value as code in Markdown, in JSON's own words."""
    texts = {True: "true", False: "false", None: "null"}
    return f"`{texts.get(value, value) if isinstance(value, bool | None) else value}`"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; columns that are empty throughout are left out."""
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(row[column] for column in kept) + " |" for row in lines] + [""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"
