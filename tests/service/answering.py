"""Clients whose requests are answered by functions, and what is asked of them."""

from collections.abc import Callable
from typing import Any

import httpx

from service.client import Palimpsest
from service.contracts.edits import EditRequest
from service.contracts.model import ModelStatus
from tests.service.stand_in import EIFFEL, model_card

REQUEST = EditRequest.model_validate(EIFFEL)

Handler = Callable[[httpx.Request], httpx.Response]


def asking(handler: Handler, **options: Any) -> Palimpsest:
    """A client whose requests are answered by a function."""
    client = Palimpsest("http://test", **options)
    client._connection.http._transport = httpx.MockTransport(handler)
    return client


def answering(*answers: Callable[[], httpx.Response]) -> Palimpsest:
    """A client whose requests get these answers, one after the other."""
    left = iter(answers)
    return asking(lambda _: next(left)())


def model_status() -> ModelStatus:
    """What `GET /model` answers."""
    return ModelStatus(card=model_card(), revision=0, checksum="c0", edited_tensors=(), edited_layers=(), worker=None)
