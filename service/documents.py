"""How an edit lies in Redis: a hash whose fields do not grow with a batch, and two that hold all its facts."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from service.contracts.edits import AnyEditRequest, BatchRequest, Edit, EditStatus, Outcome

SHOWN_FACTS = 3
"""Facts of a batch that a glance at it has."""

CHANGING = ("status", "started_at", "ended_at", "attempts", "progress", "revision", "outcome", "problem")
"""The fields that may be another at the next glance. The outcome has the first facts only."""

GLANCE = ("request", "fact_count", "created_at", *CHANGING)
"""And those that stay as they are. The request has the first facts only."""

WHOLE = (*GLANCE, "request_facts", "outcome_facts")
"""And all facts, of a batch that has more than SHOWN_FACTS."""

IsActive = Callable[[str], bool]
"""Says whether an applied edit is in force at the head."""


def request_fields(request: AnyEditRequest) -> dict[str, str]:
    """What never changes of an edit, to be written when it is created."""
    shown, facts = request, ""
    if isinstance(request, BatchRequest) and len(request.facts) > SHOWN_FACTS:
        shown = request.model_copy(update={"facts": request.facts[:SHOWN_FACTS]})
        facts = request.model_dump_json(include={"facts"}, exclude_defaults=True)
    return {
        "request": shown.model_dump_json(exclude_defaults=True),
        "request_facts": facts,
        "fact_count": str(len(request.facts)),
    }


def outcome_fields(outcome: Outcome) -> dict[str, str]:
    """What an edit found out."""
    shown, facts = outcome, ""
    if len(outcome.facts) > SHOWN_FACTS:
        shown = outcome.model_copy(update={"facts": outcome.facts[:SHOWN_FACTS]})
        facts = outcome.model_dump_json(include={"facts"})
    return {"outcome": shown.model_dump_json(), "outcome_facts": facts}


def stays(fields: Mapping[str, str]) -> dict[str, Any]:
    """What never changes of an edit, as it was read."""
    return {
        "request": json.loads(fields["request"]) | json.loads(fields.get("request_facts", "{}")),
        "fact_count": int(fields["fact_count"]),
        "created_at": datetime.fromisoformat(fields["created_at"]),
    }


def assemble(
    edit_id: str, fields: Mapping[str, str], known: Mapping[str, Any], position: int | None, is_active: IsActive
) -> Edit:
    """The edit whose changing `fields` were read; `known` is what stays."""
    status = EditStatus(fields["status"])
    if status is EditStatus.APPLIED and not is_active(edit_id):
        status = EditStatus.REVERTED
    loaded: dict[str, Any] = {
        name: json.loads(fields[name]) for name in ("progress", "outcome", "problem") if name in fields
    }
    if "outcome_facts" in fields:
        loaded["outcome"] |= json.loads(fields["outcome_facts"])
    times = {name: datetime.fromisoformat(fields[name]) for name in ("started_at", "ended_at") if name in fields}
    return Edit(
        id=edit_id,
        status=status,
        attempts=int(fields["attempts"]),
        position=None if status.ended else position,
        revision=int(fields["revision"]) if "revision" in fields else None,
        **known,
        **times,
        **loaded,
    )
