"""The HTTP protocol that waits only so long: for a request, which may trickle in (slow loris), and for an answer to be
taken.
"""

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Patient(H11Protocol):
    """uvicorn's protocol, for a connection of which each request must have arrived, body and all, within `seconds`.

    And of an answer that lies ready something must be taken within `seconds`. uvicorn itself waits for both as long as
    the client likes.
    """

    seconds: ClassVar[float]

    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Go on waiting, unless the request is whole."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._forget()
        self._taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to take something of what lies ready."""
        super().pause_writing()
        self._offer(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has taken nearly all of it."""
        self._taken()
        super().resume_writing()

    def _look(self) -> None:
        """One deadline for each request, which its pieces do not put off."""
        if not self._waits():
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._end)

    def _waits(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()

    def _end(self) -> None:
        self._deadline = None
        if self._waits():
            self.transport.close()

    def _offer(self, waiting: int) -> None:
        self._taking = self.loop.call_later(self.seconds, self._look_again, waiting)

    def _look_again(self, waiting: int) -> None:
        """waiting: bytes that lay ready when it was looked last."""
        now = self.transport.get_write_buffer_size()
        if now < waiting:
            self._offer(now)
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


def patient(seconds: float) -> type[Patient]:
    """The protocol that waits so long."""
    return type("Patient", (Patient,), {"seconds": seconds})
