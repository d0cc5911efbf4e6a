"""The HTTP protocol that takes only so many connections, and waits only so long: for a request, which may trickle in
(slow loris), and for an answer to be taken.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

TOLD_SECONDS = 60.0
"""How long nothing more is logged of connections that are refused: a flood is not to fill the log."""

_log = logging.getLogger(__name__)


class ConnectionLimit:
    """The open connections of a process: `most` in all, and `each` of one address.

    Where there are `most`, the oldest of those that have sent no whole request makes room for a new one, so that idle
    connections keep nobody out. counted: what an address counts as; None for a proxy, which speaks for many.
    """

    def __init__(self, most: int, each: int, counted: Callable[[str], str | None]) -> None:
        self._most = most
        self._each = each
        self._counted = counted
        self._open: dict[Patient, str | None] = {}
        self._of = Counter[str]()
        self._told = -math.inf

    def enter(self, connection: "Patient", address: str) -> bool:
        """Count a connection; False if it is one too many."""
        name = self._counted(address)
        if name is not None and self._of[name] >= self._each:
            self._tell(f"{name} has {self._each} connections open, and gets no more (PALIMPSEST_MAX_CONNECTIONS).")
            return False
        if len(self._open) >= self._most and not self._make_room():
            return False
        self._open[connection] = name
        if name is not None:
            self._of[name] += 1
        return True

    def leave(self, connection: "Patient") -> None:
        """Count it no longer, if it was counted."""
        name = self._open.pop(connection, None)
        if name is not None:
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]

    def _make_room(self) -> bool:
        self._tell(
            f"{self._most} connections are open: of those that send no request, the oldest make room (ulimit -n)."
        )
        idle = next((each for each in self._open if each.waits), None)
        if idle is None:
            return False
        self.leave(idle)
        idle.transport.abort()
        return True

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            _log.warning(what)


class Patient(H11Protocol):
    """uvicorn's protocol, for a connection of which each request must have arrived, body and all, within `seconds`.

    And of an answer that lies ready something must be taken within `seconds`. uvicorn itself waits for both as long as
    the client likes. A connection beyond `limit` is closed at once.
    """

    seconds: ClassVar[float]
    limit: ClassVar[ConnectionLimit]

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether the client has yet to send a request, or the rest of one."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, if there is a place."""
        super().connection_made(transport)
        if not self.limit.enter(self, self.client[0] if self.client else ""):
            transport.abort()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Go on waiting, unless the request is whole."""
        super().data_received(data)
        self._look()

    def eof_received(self) -> None:
        """The client sends no more, so the connection closes: here as by asyncio, which would do it just after."""
        super().eof_received()
        self.transport.close()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self.limit.leave(self)
        self._forget()
        self._taken()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, the beginning of which may lie here already."""
        super().on_response_complete()
        self._look()

    def timeout_keep_alive_handler(self) -> None:
        """Close, and wait for the last answer to be taken."""
        super().timeout_keep_alive_handler()
        self._look()

    def pause_writing(self) -> None:
        """Wait for the client to take something of what lies ready."""
        super().pause_writing()
        self._offer()

    def resume_writing(self) -> None:
        """The client has taken nearly all of it."""
        self._taken()
        super().resume_writing()
        self._look()

    def _look(self) -> None:
        """One deadline for each request, which its pieces do not put off; one for the rest of the last answer.

        That of an answer which is still being made begins with its end, or where it fills the buffer.
        """
        if not self.waits:
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._end)
        if self.transport.is_closing() and not self._answers():
            self._offer()

    def _answers(self) -> bool:
        return self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete

    def _end(self) -> None:
        self._deadline = None
        if self.waits:
            self.transport.close()
            self._look()

    def _offer(self) -> None:
        """A closed connection lasts until all is taken, and one that is paused does too."""
        waiting = self.transport.get_write_buffer_size()
        if waiting and self._taking is None:
            self._taking = self.loop.call_later(self.seconds, self._look_again, waiting)

    def _look_again(self, waiting: int) -> None:
        """waiting: bytes that lay ready when it was looked last."""
        self._taking = None
        if self.transport.get_write_buffer_size() < waiting:
            self._offer()
        else:
            self.transport.abort()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def patient(seconds: float, limit: ConnectionLimit) -> type[Patient]:
    """The protocol that waits so long, for so many."""
    return type("Patient", (Patient,), {"seconds": seconds, "limit": limit})
