"""Sends drafts over one connection that stays open."""

import hashlib
import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.service.fuzzing.drafts import Draft

SECONDS = 60.0
"""After which an answer that has not come is a defect."""


@dataclass(frozen=True)
class Answer:
    """What came back; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "")


class Wire:
    """always: headers of every request. last: a digest of the request that went out last."""

    def __init__(self, url: str, always: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
        self._always = always
        self.last = b""

    def ask(self, draft: Draft) -> Answer:
        """The answer to a draft; raises TimeoutError where there is none in time."""
        headers, content = draft.sent_headers(self._always), draft.content
        written = repr((draft.method, draft.target, sorted(headers.items()), content))
        answer = self._exchange(draft, content, headers)
        self.last = hashlib.blake2b(written.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())

    def _exchange(self, draft: Draft, content: bytes | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Once more where the connection was lost: a server ends one that was idle for 5 s, as on a busy machine."""
        try:
            self._connection.request(draft.method, draft.target, content, {**headers})
            return self._connection.getresponse()
        except ConnectionError:
            self._connection.close()
            self._connection.request(draft.method, draft.target, content, {**headers})
            return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def wire(url: str, always: Mapping[str, str]) -> Iterator[Wire]:
    """A connection, closed in the end."""
    opened = Wire(url, always)
    try:
        yield opened
    finally:
        opened.close()
