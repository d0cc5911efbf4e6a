"""Models in OpenAI's shape: the head under the model's name, the base and every other revision behind an @."""

import re
from datetime import datetime

from fastapi import APIRouter, Response

from service.contracts.openai_answers import ServedModel, ServedModels
from service.contracts.problem import FieldError
from service.dependencies import CanRead, Services
from service.errors import ProblemError
from service.middleware import REVISION
from service.problems import OPENAI_RESPONSES

SHOWN_REVISIONS = 100
"""Revisions that are listed: the newest."""

OWNER = "palimpsest"

_REVISION = "@r(0|[1-9][0-9]{0,14})"

router = APIRouter(prefix="/v1/models", tags=["openai"], responses=OPENAI_RESPONSES)


@router.get("", summary="List models (OpenAI)")
def list_models(services: CanRead) -> ServedModels:
    """The head, the base, and the newest revisions. Any other revision may be asked for as well."""
    model = services.keys.model
    made = [entry.created_at for entry in services.ledger.entries()]
    head = len(made) - 1
    newest = [(f"@r{number}", number) for number in range(head, max(-1, head - SHOWN_REVISIONS), -1)]
    names = [("", head), ("@base", 0), *newest] if made else []
    return ServedModels(object="list", data=tuple(_served(model + name, made[number]) for name, number in names))


@router.get("/{model:path}", summary="Look at a model (OpenAI)")
def get_model(model: str, response: Response, services: CanRead) -> ServedModel:
    """One revision by its name, listed or not."""
    number = services.ledger.resolve(revision_of(model, services))
    response.headers[REVISION] = str(number)
    return _served(model, services.ledger.revision(number).created_at)


def revision_of(model: str, services: Services) -> str | int:
    """`head`, `base` or the number that a model's name stands for; 404 if there is no such model, or not yet."""
    name = services.keys.model
    if model == name:
        return "head"
    if model == f"{name}@base":
        return "base"
    number = re.fullmatch(re.escape(name) + _REVISION, model)
    head = services.ledger.head()
    if number is None or (head is not None and int(number[1]) > head):
        raise _not_found(model, name)
    return int(number[1])


def _served(name: str, made: datetime) -> ServedModel:
    return ServedModel(id=name, object="model", created=int(made.timestamp()), owned_by=OWNER)


def _not_found(model: str, name: str) -> ProblemError:
    detail = (
        f"The model {model[:200]!r} does not exist. There are {name} (the newest revision), {name}@base, {name}@r1 and "
        "so on; GET /v1/models lists them."
    )
    return ProblemError(404, "model-not-found", detail, errors=[FieldError(field="model", detail="does not exist")])
