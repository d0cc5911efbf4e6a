"""A conversation with two revisions at once: each side hears the same, and remembers what it has said itself."""

import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from service.client import Palimpsest
from service.contracts.generate import FinishReason, Message, Side

Hear = Callable[[Side, str], None]
"""Is told what a side has said since."""

Heard = SimpleQueue[tuple[Side, str | Exception | None]]
"""What the sides say; None: a side has ended."""

LEAVE_SECONDS = 1.0
"""How long a side that is no longer listened to is waited for: it hears of that with its next token."""

LOOK_SECONDS = 0.2
"""How often a wait for the next word is begun again: a Ctrl-C just before it would be noticed only with that word."""


@dataclass
class Saying:
    """What a side says in one turn."""

    revision: str = ""
    text: str = ""
    finish_reason: FinishReason | None = None


@dataclass
class Talk:
    """Asks both sides at once. options: what `Palimpsest.chat` takes beside the conversation."""

    client: Palimpsest
    at: dict[Side, str | int]
    system: str | None
    options: Mapping[str, Any]
    _history: dict[Side, list[Message]] = field(default_factory=lambda: {side: [] for side in Side})

    def reset(self) -> None:
        """Forget what was said."""
        for history in self._history.values():
            history.clear()

    def say(self, text: str, hear: Hear) -> dict[Side, Saying]:
        """What both sides answer; `hear` is called in this thread as it comes.

        Raises ProblemError, ValidationError or KeyboardInterrupt, as if nothing had been said.
        """
        asked = Message(role="user", content=text)
        answers = {side: Saying() for side in Side}
        self._listen(asked, answers, hear)
        for side, answer in answers.items():
            if answer.text.strip():  # an empty turn is none that a template could be given
                self._history[side] += (asked, Message(role="assistant", content=answer.text))
        return answers

    def _listen(self, asked: Message, answers: Mapping[Side, Saying], hear: Hear) -> None:
        heard: Heard = SimpleQueue()
        stop = threading.Event()
        arguments = [(side, asked, answer, heard, stop) for side, answer in answers.items()]
        threads = [threading.Thread(target=self._ask, args=given, daemon=True) for given in arguments]
        for thread in threads:
            thread.start()
        try:
            left = len(arguments)
            while left:
                side, said = _next(heard)
                if isinstance(said, Exception):
                    raise said
                if said is None:
                    left -= 1
                else:
                    hear(side, said)
        finally:
            stop.set()
            for thread in threads:
                thread.join(LEAVE_SECONDS)

    def _ask(self, side: Side, asked: Message, answer: Saying, heard: Heard, stop: threading.Event) -> None:
        told = [] if self.system is None else [Message(role="system", content=self.system)]
        messages = [*told, *self._history[side], asked]
        try:
            with closing(self.client.chat(messages, self.at[side], **self.options)) as chunks:
                for chunk in chunks:
                    if stop.is_set():
                        return
                    answer.revision = chunk.system_fingerprint
                    for choice in chunk.choices:
                        text = choice.delta.content or ""
                        answer.text += text
                        answer.finish_reason = choice.finish_reason or answer.finish_reason
                        heard.put((side, text))
            heard.put((side, None))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            heard.put((side, error))


def _next(heard: Heard) -> tuple[Side, str | Exception | None]:
    while True:
        with suppress(Empty):
            return heard.get(timeout=LOOK_SECONDS)
