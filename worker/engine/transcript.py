"""The text that a row's tokens make: told as far as it is settled, and ended before a stop."""

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder puts for bytes that are not, or not yet, a character."""


class Transcript:
    """Text from tokens that come one by one.

    text: what is settled, which later tokens do not change; a character whose tokens are not all there, and what may
    be the beginning of a stop, is not in it until `end`.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.text = ""
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._tokens: list[int] = []
        self._from, self._read = 0, 0  # the tokens of the last text that was complete: they say how the next ones read
        self._held = ""

    def add(self, token: int) -> None:
        """Read one token more; `stopped` tells whether the text has met a stop, which it ends before."""
        self._tokens.append(token)
        new = self._unread()
        if new and not new.endswith(UNFINISHED):
            self._from, self._read = self._read, len(self._tokens)
            self._settle(self._held + new)

    def end(self) -> None:
        """Nothing more comes: settle what has been held back."""
        if not self.stopped:
            self._settle(self._held + self._unread())
        if not self.stopped:
            self.text, self._held = self.text + self._held, ""

    def _unread(self) -> str:
        """What the tokens after the last complete text add to it."""
        before = self._decoded(self._tokens[self._from : self._read])
        return self._decoded(self._tokens[self._from :])[len(before) :]

    def _settle(self, text: str) -> None:
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.text, self._held, self.stopped = self.text + text[: min(found)], "", True
            return
        held = max((_beginning(text, stop) for stop in self._stop), default=0)
        self.text, self._held = self.text + text[: len(text) - held], text[len(text) - held :]

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _beginning(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop, not yet whole, begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if stop.startswith(text[len(text) - length :])), 0)
