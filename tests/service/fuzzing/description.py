"""What the API's description allows as an answer to each operation, compiled so that every answer can be checked."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import jsonschema_rs

from tests.service.fuzzing.drafts import Draft
from tests.service.fuzzing.wire import Answer

DIALECT = "https://json-schema.org/draft/2020-12/schema"


REFUSED = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNAUTHORIZED, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
"""What methods are answered with that no path takes; who asks, and what is sent, is looked at before."""

ELSEWHERE = (HTTPStatus.NOT_FOUND, HTTPStatus.TEMPORARY_REDIRECT)


class Operation:
    """One method of one path. bare: takes no parameters; takes_body: takes a body."""

    def __init__(self, method: str, path: str, told: Mapping[str, Any], components: Mapping[str, Any]) -> None:
        self.label = f"{method.upper()} {path}"
        self.method, self.path = method.upper(), path
        self.takes_body = "requestBody" in told
        self.bare = not self.takes_body and not told.get("parameters")
        self._contents = {
            status: {media.partition(";")[0]: content for media, content in found.get("content", {}).items()}
            for status, found in told["responses"].items()
        }
        self._validators = {
            (status, media): jsonschema_rs.validator_for(
                {"$schema": DIALECT, **content["schema"], "components": components}
            )
            for status, contents in self._contents.items()
            for media, content in contents.items()
            if media.endswith("json") and "schema" in content
        }

    def faults(self, draft: Draft, answer: Answer) -> list[str]:
        """What is wrong with an answer; nothing, as a rule."""
        if draft.method != self.method:
            refused = answer.status in REFUSED or (draft.path_ends_in_slash and answer.status in ELSEWHERE)
            return [] if refused else [f"{draft.method} was answered with {answer.status}"]
        return [*self._undocumented(draft, answer), *_of_every_answer(answer), *_defect(draft, answer)]

    def _undocumented(self, draft: Draft, answer: Answer) -> list[str]:
        if answer.status == HTTPStatus.TEMPORARY_REDIRECT and draft.path_ends_in_slash:
            return []  # to the path without it
        status, media = str(answer.status), answer.media_type.partition(";")[0].strip()
        known = status if status in self._contents else f"{status[0]}XX"
        if known not in self._contents:
            return [f"{status} is not documented"]
        if media not in self._contents[known]:
            return [f"{media!r} is not documented for {status}"]
        try:
            value = _read(media, answer.content)
        except ValueError as error:
            return [f"the content is no {media}: {error}"]
        validator = self._validators.get((known, media))
        if validator is None or value is None:
            return []
        return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)][:3]


def _read(media: str, content: bytes) -> Any:
    """The JSON value, if it is one; raises ValueError where the content is not what it says it is."""
    if media.endswith("json"):
        return json.loads(content, parse_constant=_no_number)
    if media == "text/event-stream":
        for line in content.decode().splitlines():
            if line.startswith("data: ") and line != "data: [DONE]":
                json.loads(line.removeprefix("data: "), parse_constant=_no_number)
    elif media == "image/png" and not content.startswith(b"\x89PNG"):
        raise ValueError("no signature")
    elif media == "application/x-tar" and (len(content) % 512 or content[257:262] != b"ustar"):
        raise ValueError("no blocks")
    return None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _of_every_answer(answer: Answer) -> list[str]:
    found = [] if answer.headers.get("x-request-id") else ["no X-Request-Id"]
    found += [] if answer.headers.get("x-content-type-options") == "nosniff" else ["no security headers"]
    return found + [f"it tells {word!r}" for word in (b"Traceback", b'File "', b"root:x:") if word in answer.content]


def _defect(draft: Draft, answer: Answer) -> list[str]:
    """A revision may be there later; an answer may take longer than the client waits; the head may just have moved."""
    if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return []
    asked = repr((draft.query, draft.body))
    excused = (
        (b"revision-not-reached" in answer.content and "min_revision" in asked)
        or (b"no-answer" in answer.content and "timeout" in asked)
        or (b"no-worker" in answer.content and draft.path == "/ready")
    )
    return [] if excused else [f"{answer.status}: {answer.content[:500]!r}"]


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """Every operation of the description."""
    return [
        Operation(method, path, told, document["components"])
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]
