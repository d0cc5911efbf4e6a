"""How the processes log: sentences for a person, or one JSON object a line for a program."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from service.origin import ORIGIN

Format = Literal["text", "json"]

TOLD = "told"
"""The attribute of a record with what else a program may want to know of it; not said in a sentence."""


class JsonLines(logging.Formatter):
    """A record as one line: time, level, logger, process, message, and the request that it is about, if any."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": record.getMessage(),
        }
        if request_id := ORIGIN.get().request_id:
            line["request_id"] = request_id
        line |= getattr(record, TOLD, {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)  # ASCII: U+0085 and the like would end a line for some who read it


def set_up(process: str, form: str, sentences: int) -> None:
    """Log to the standard error output from now on.

    process: what each line is said to come from; form: a Format, any other is text; sentences: the lowest level that is
    told as a sentence. As JSON everything from INFO on is told; no prompt, no key and no secret is, at INFO and above.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_json = form == "json"
    handler.setFormatter(JsonLines(process) if as_json else logging.Formatter(f"{process}: %(message)s"))
    logging.basicConfig(level=logging.INFO if as_json else sentences, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole URLs
