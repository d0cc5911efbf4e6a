"""The HTTP reference: Markdown pages from the OpenAPI document of the application itself."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.hooks.schemas import REQUIRED, Schema, code, default, fields, given, kind, meaning, name_of, table
from service.app import create_app
from service.settings import Settings

TITLES = {"model": "Model and methods", "openai": "OpenAI's API"}
"""Of tags that do not say it themselves."""

REMARKS = """
Any call may answer with a [problem](types.md#problem) instead: 4xx where the request is at fault, 5xx where the service
is, or is busy. Bodies and answers are JSON unless something else is said. What is not required may be left out.

These pages are made from the service's OpenAPI document, which a server has at `/openapi.json`, and as a page where
every call can be tried at `/docs`.
"""
VERBS = ("get", "post", "put", "patch", "delete")
EVERYWHERE = ("4XX", "5XX")
"""Answers that every call may give: the index says it once."""

FIELDS = ("field", "what it takes", "default", "meaning")
ANSWERED = ("field", "what it is", "default", "meaning")


def document() -> dict[str, Any]:
    """The OpenAPI document; no Redis is asked for it."""
    return create_app(Settings(redis_url="redis://localhost")).openapi()


def pages(openapi: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path below docs/, Markdown) of the index, of a page for each tag, and of the types."""
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, calls in openapi["paths"].items():
        for verb in VERBS:
            if verb in calls:
                by_tag.setdefault(calls[verb]["tags"][0], []).append((verb.upper(), path, calls[verb]))
    schemas = {name_of(name): schema for name, schema in openapi["components"]["schemas"].items()}
    yield "http/index.md", _index(openapi, by_tag)
    for tag, calls in by_tag.items():
        lines = [f"# {title(tag)}", ""]
        for verb, path, call in calls:
            lines += _call(verb, path, call, schemas)
        yield f"http/{tag}.md", "\n".join(lines)
    yield "http/types.md", _types(schemas)


def navigation(openapi: Mapping[str, Any]) -> list[Any]:
    """The reference's entries for mkdocs' nav: the index, a page for each tag, the types."""
    calls = [call for path in openapi["paths"].values() for verb, call in path.items() if verb in VERBS]
    tags = dict.fromkeys(call["tags"][0] for call in calls)
    return ["http/index.md", *({title(tag): f"http/{tag}.md"} for tag in tags), {"Types": "http/types.md"}]


def anchor(verb: str, path: str) -> str:
    """The heading's id of a call."""
    return f"{verb} {path}".lower().translate(str.maketrans(" /{}._", "------")).strip("-")


def title(tag: str) -> str:
    """The heading of a tag's page."""
    return TITLES.get(tag, tag.capitalize())


def _link(reference: str) -> str:
    name = name_of(reference)
    return f"[{name}](types.md#{name.lower()})"


def _index(openapi: Mapping[str, Any], by_tag: Mapping[str, Any]) -> str:
    lines = [
        "# HTTP reference",
        "",
        openapi["info"]["description"],
        "",
        REMARKS,
    ]
    for tag, calls in by_tag.items():
        lines += [f"## {title(tag)}", ""]
        rows = [
            (f"[`{verb} {path}`]({tag}.md#{anchor(verb, path)})", str(call["summary"])) for verb, path, call in calls
        ]
        lines += table(("call", "what it does"), rows)
    return "\n".join(lines)


def _call(verb: str, path: str, call: Mapping[str, Any], schemas: Mapping[str, Schema]) -> list[str]:
    lines = [f"## {call['summary']} {{ #{anchor(verb, path)} }}", "", f"**`{verb} {path}`**", ""]
    lines += [str(call.get("description", "")), ""]
    rows = [
        (
            f"`{one['name']}`",
            one["in"],
            given(one["schema"], _link),
            REQUIRED if one.get("required") else default(one["schema"]),
            meaning(one["schema"]),
        )
        for one in call.get("parameters", ())
    ]
    if rows:
        lines += table(("parameter", "in", "what it takes", "default", "meaning"), rows)
    for body in call.get("requestBody", {}).get("content", {}).values():
        lines += _body(body, schemas)
    return [*lines, *_answers(call["responses"])]


def _body(body: Mapping[str, Any], schemas: Mapping[str, Schema]) -> list[str]:
    lines: list[str] = []
    schema = body["schema"]
    for one in schema.get("anyOf", [schema]):
        name = name_of(one.get("$ref", "body"))
        lines += [f"Body, [{name}](types.md#{name.lower()}):", "", *table(FIELDS, fields(schemas[name], _link, given))]
    for example in body.get("examples", {}).values():
        text = json.dumps(example["value"], indent=2, ensure_ascii=False)
        lines += [f"Example: {example.get('summary', '').lower()}", "", "```json", text, "```", ""]
    return lines


def _answers(responses: Mapping[str, Any]) -> list[str]:
    rows = []
    for status, answer in sorted(responses.items()):
        if status in EVERYWHERE:
            continue
        content = answer.get("content", {})
        what = " or ".join(
            kind(media["schema"], _link) if media.get("schema") else f"`{name}`" for name, media in content.items()
        )
        said = answer["description"]
        rows.append((status, what, "" if said == "Successful Response" else said))
    return table(("status", "answer", "when"), rows)


def _types(schemas: Mapping[str, Schema]) -> str:
    lines = ["# Types", "", "Every object and every choice that the calls take or answer, by name.", ""]
    for name in sorted(schemas):
        schema = schemas[name]
        lines += [f"## {name}", "", str(schema.get("description", "")), ""]
        if "enum" in schema:
            lines += ["One of " + ", ".join(code(value) for value in schema["enum"]) + ".", ""]
        if schema.get("properties"):
            lines += table(ANSWERED, fields(schema, lambda one: f"[{name_of(one)}](#{name_of(one).lower()})"))
    return "\n".join(lines)
