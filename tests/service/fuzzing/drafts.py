"""A request that can be changed part by part before it is sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlencode

from schemathesis import Case
from schemathesis.core import NotSet


@dataclass
class Draft:
    """What is to be sent, each part as it is before it is written down.

    path: as the description has it, with names in braces; places: what stands there instead. body: any JSON value, or
    bytes that are sent as they are, or None where there is none.
    """

    method: str
    path: str
    places: dict[str, str] = field(default_factory=dict)
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    @classmethod
    def of(cls, case: Case[Any]) -> Self:
        """What schemathesis has made up."""
        return cls(
            case.operation.method.upper(),
            case.operation.path,
            {name: str(value) for name, value in (case.path_parameters or {}).items()},
            [(name, str(one)) for name, value in (case.query or {}).items() for one in _listed(value)],
            {name: str(value) for name, value in (case.headers or {}).items() if name.lower() != "authorization"},
            None if isinstance(case.body, NotSet) else case.body,
        )

    @property
    def target(self) -> str:
        """The path and the query, written down."""
        path = self.path
        for name, value in self.places.items():
            path = path.replace("{" + name + "}", quote(value, safe="", errors="surrogatepass"))
        return f"{path}?{urlencode(self.query, errors='surrogatepass')}" if self.query else path

    @property
    def path_ends_in_slash(self) -> bool:
        """Whether it does as it is written down, for whoever reads it."""
        return any(value == "" or value.endswith("/") for value in self.places.values())

    @property
    def content(self) -> bytes | None:
        """The body, written down."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()

    def sent_headers(self, always: Mapping[str, str]) -> dict[str, str]:
        """Those of the draft, over those that every request has."""
        of_body = {} if self.body is None else {"Content-Type": "application/json"}
        return {**always, **of_body, **self.headers}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
