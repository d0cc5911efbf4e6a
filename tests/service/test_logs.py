"""Logs as lines for a program: each whole, with its request, whatever is in it."""

import json
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from service.logs import TOLD, JsonLines
from service.origin import ORIGIN, Origin


def _record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("service.test", logging.INFO, __file__, 1, message, arguments, None)
    vars(record).update(fields)
    return record


@given(st.text())
def test_a_record_is_one_line_whatever_it_says(text: str) -> None:
    line = JsonLines("api").format(_record("%s", text))
    assert len(line.splitlines()) == 1
    read = json.loads(line)
    assert read["message"] == text
    assert (read["level"], read["logger"], read["process"]) == ("info", "service.test", "api")
    assert "request_id" not in read


def test_the_request_and_what_else_is_told_stand_beside_the_message() -> None:
    token = ORIGIN.set(Origin("find-me"))
    read = json.loads(JsonLines("worker").format(_record("done", **{TOLD: {"seconds": 0.5, "status": 200}})))
    ORIGIN.reset(token)
    assert (read["request_id"], read["seconds"], read["status"]) == ("find-me", 0.5, 200)


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        int("no good")
    except ValueError:
        record = _record("it failed", exc_info=sys.exc_info())
    line = JsonLines("api").format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["error"].endswith("with base 10: 'no good'")
