"""The resident model and the methods that can edit it."""

import re

from fastapi import APIRouter

from service.contracts.model import MethodList, ModelStatus
from service.dependencies import CanRead

router = APIRouter(tags=["model"])


@router.get("/model", summary="Look at the model")
def get_model(services: CanRead) -> ModelStatus:
    """The model, its head revision, and which of its tensors and layers the head has changed."""
    notices = services.board.look()
    card = notices.last_card()
    number = services.ledger.resolve("head")  # before the entries, which may have more by the time they are read
    head = services.ledger.entries()[number]
    tensors = tuple(sorted(head.tensors))
    pattern = re.escape(card.editable).replace(re.escape("{}"), r"(\d+)")
    layers = {int(match[1]) for tensor in tensors if (match := re.fullmatch(pattern, tensor))}
    return ModelStatus(
        card=card,
        revision=head.revision,
        checksum=head.checksum,
        edited_tensors=tensors,
        edited_layers=tuple(sorted(layers)),
        worker=notices.worker,
        workers=notices.workers,
    )


@router.get("/methods", summary="List the editing methods")
def list_methods(services: CanRead) -> MethodList:
    """The methods, with the schema of their hyperparameters and the values for this model."""
    notices = services.board.look()
    card = notices.last_card()
    return MethodList(model=card.name, methods=card.methods, revision=notices.head)
