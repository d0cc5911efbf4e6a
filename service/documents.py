"""How a job lies in Redis: a hash whose fields stay small, and two that hold all facts, or whatever else is large."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from service.contracts.jobs import Job, has_ended

SHOWN_FACTS = 3
"""Facts that a glance at a job has."""

Document = TypeVar("Document", bound=Job[Any])

_OBJECTS = ("progress", "problem", "cancelled_by")

_CHANGING = ("status", "started_at", "ended_at", "attempts", "fact_count", "revision", *_OBJECTS)


@dataclass(frozen=True)
class Shape(Generic[Document]):
    """What the jobs of one kind look like: the contract that they are shown as, and its field with what was found."""

    document: type[Document]
    found: str

    @property
    def changing(self) -> tuple[str, ...]:
        """The fields that may be another at the next glance. What was found has the first facts only."""
        return (*_CHANGING, self.found)

    @property
    def glance(self) -> tuple[str, ...]:
        """And those that stay as they are. The request has the first facts only."""
        return ("request", "created_at", "request_id", "by", *self.changing)

    @property
    def whole(self) -> tuple[str, ...]:
        """And all facts, of a job that has more than SHOWN_FACTS."""
        return (*self.glance, "request_facts", f"{self.found}_facts")

    def stays(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """What never changes of a job, as it was read."""
        return {
            "request": _joined(fields, "request"),
            "created_at": datetime.fromisoformat(fields["created_at"]),
            "request_id": fields.get("request_id"),
            "by": fields.get("by"),
        }

    def assemble(
        self, job_id: str, fields: Mapping[str, str], known: Mapping[str, Any], position: int | None
    ) -> Document:
        """The job whose changing `fields` were read; `known` is what stays."""
        values: dict[str, Any] = {name: json.loads(fields[name]) for name in _OBJECTS if name in fields}
        values |= {name: int(fields[name]) for name in ("attempts", "fact_count", "revision") if name in fields}
        values |= {name: datetime.fromisoformat(fields[name]) for name in ("started_at", "ended_at") if name in fields}
        if self.found in fields:
            values[self.found] = _joined(fields, self.found)
        status = fields["status"]
        shown = None if has_ended(status) else position
        return self.document.model_validate({"id": job_id, "status": status, "position": shown, **known, **values})


def request_fields(request: BaseModel) -> dict[str, str]:
    """What never changes of a job, to be written when it is created."""
    return cut("request", request, exclude_defaults=True)


def cut(name: str, value: Any, *, exclude_defaults: bool = False) -> dict[str, str]:
    """A value as field `name`, with the first of its facts; where there are more, all of them as another field."""
    facts = getattr(value, "facts", None)
    if not isinstance(facts, tuple) or len(facts) <= SHOWN_FACTS:
        return {name: value.model_dump_json(exclude_defaults=exclude_defaults), f"{name}_facts": ""}
    shown = value.model_copy(update={"facts": facts[:SHOWN_FACTS]})
    return {
        name: shown.model_dump_json(exclude_defaults=exclude_defaults),
        f"{name}_facts": value.model_dump_json(include={"facts"}, exclude_defaults=exclude_defaults),
    }


def set_apart(name: str, value: BaseModel, part: str) -> dict[str, str]:
    """A value as field `name` without a large part of it, and that part beside the facts, where no glance reads it."""
    return {
        name: value.model_dump_json(exclude={part}, exclude_defaults=True),
        f"{name}_facts": value.model_dump_json(include={part}, exclude_defaults=True),
    }


def _joined(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    """A value that was cut, whole again if all its fields were read."""
    joined: dict[str, Any] = json.loads(fields[name]) | json.loads(fields.get(f"{name}_facts", "{}"))
    return joined
