"""Exports: a revision as an adapter or as a whole model, streamed as an archive."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field

from service.archiving import Archive
from service.contracts.base import Contract, RevisionName
from service.contracts.exports import DEFAULT_RANK, MOST_RANK, ExportedFile, ExportKind, ExportRequest
from service.contracts.model import ModelCard
from service.dependencies import CanAdmin, CanRead, Services, UntilAnswered, WhoAsks, WithClientGone, WithServices
from service.middleware import REVISION
from service.provenance import provenance

router = APIRouter(tags=["exports"])

MEDIA_TYPE = "application/x-tar"

ADAPTER_RANK, ADAPTER_ERROR = "X-Adapter-Rank", "X-Adapter-Error"
TOLD = (ADAPTER_RANK, ADAPTER_ERROR)

_TAR: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A tar of one folder; its last file, `manifest.json`, says where all comes from.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class AdapterQuery(Contract):
    """How large an adapter may be."""

    rank: Annotated[
        int, Field(ge=1, le=MOST_RANK, description="at most; larger changes are cut, X-Adapter-Error says how far")
    ] = DEFAULT_RANK


@dataclass(frozen=True)
class Asking:
    """Who asks, and what is needed to answer."""

    services: WithServices
    caller: WhoAsks
    gone: WithClientGone
    until_answered: UntilAnswered


WithAsking = Annotated[Asking, Depends()]
WithRevision = Annotated[RevisionName, Path(description="base, head, or a revision: 3 or r3")]


@router.get(
    "/revisions/{revision}/adapter",
    response_class=StreamingResponse,
    responses=_TAR,
    summary="Download a revision as an adapter",
)
async def get_adapter(
    revision: WithRevision, query: Annotated[AdapterQuery, Query()], services: CanRead, asking: WithAsking
) -> StreamingResponse:
    """A LoRA adapter, as PEFT loads it, of what the revision changes of the base. 409 where there is no exact one."""
    number, card = await run_in_threadpool(_admit, services, revision)
    body = ExportRequest(export=ExportKind.ADAPTER, revision=number, rank=query.rank)
    return await _answer(body, card, asking)


@router.get(
    "/revisions/{revision}/checkpoint",
    response_class=StreamingResponse,
    responses=_TAR,
    summary="Download a revision as a whole model",
)
async def get_checkpoint(revision: WithRevision, services: CanAdmin, asking: WithAsking) -> StreamingResponse:
    """A model folder, as `from_pretrained` loads it, with the revision's weights in the dtype that is served."""
    number, card = await run_in_threadpool(_admit, services, revision)
    return await _answer(ExportRequest(export=ExportKind.CHECKPOINT, revision=number), card, asking)


def _admit(services: Services, revision: str | int) -> tuple[int, ModelCard]:
    card = services.board.look().ready_card()
    return services.ledger.resolve(revision), card


async def _answer(body: ExportRequest, card: ModelCard, asking: Asking) -> StreamingResponse:
    services, leaving = asking.services, asking.until_answered
    leaving.enter_context(services.stored.archive(None if asking.caller.unlimited else asking.caller.label))
    name, exported = await services.lane.export(body, asking.gone)
    first = await leaving.enter_async_context(services.stored.open(name))
    manifest = await run_in_threadpool(provenance, body, exported, card, services.ledger, services.edits)
    folder = f"{_plain(card.name)}-r{body.revision}-{body.export}"
    archive = Archive(folder, exported.files, manifest)
    content = archive.content(first, services.stored, partial(_make, body, asking))
    leaving.push_async_callback(content.aclose)
    headers = {
        "Content-Disposition": f'attachment; filename="{folder}.tar"',
        "Content-Length": str(archive.length),
        "ETag": archive.etag,
        REVISION: str(body.revision),
    }
    if exported.fidelity is not None:
        headers |= {ADAPTER_RANK: str(exported.fidelity.rank), ADAPTER_ERROR: f"{exported.fidelity.error:.3g}"}
    return StreamingResponse(content, headers=headers, media_type=MEDIA_TYPE)


async def _make(body: ExportRequest, asking: Asking, file: str) -> tuple[str, ExportedFile]:
    name, exported = await asking.services.lane.export(body.model_copy(update={"file": file}), asking.gone)
    (made,) = exported.files
    return name, made


def _plain(name: str) -> str:
    """A model's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
