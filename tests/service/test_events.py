"""Server-sent events, as they come and however they are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import Event, parse_events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data: a\n\ndata: b\n\n", [("message", "a"), ("message", "b")]),
        ("event: x\nid: 1\ndata:a\n\ndata: b\n\n", [("x", "a"), ("message", "b")]),
        ("data: a\ndata: b\n\n", [("message", "a\nb")]),
        (": ping\n\n\n\ndata: a\n\n", [("message", "a")]),
        ("event: x\n\ndata: a\n\n", [("message", "a")]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("message", "a"), ("message", "b"), ("message", "c")]),
        ("database: a\n\ndata\n\n", [("message", "")]),
        ("data: a\n", []),
    ],
)
def test_parse_events(text: str, events: list[tuple[str, str]]) -> None:
    assert list(parse_events([text])) == events


@given(
    st.lists(st.tuples(st.sampled_from(["piece", "done"]), st.text())),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_events_are_the_same_however_they_are_cut(said: list[tuple[str, str]], end: str, data: st.DataObject) -> None:
    events = [Event(name, json.dumps(text, ensure_ascii=False)) for name, text in said]
    lines = [line for name, text in events for line in (f"event: {name}", f"data: {text}", ": ping", "")]
    whole = "".join(line + end for line in (*lines, ""))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    chunks = [whole[begin:stop] for begin, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert list(parse_events(chunks)) == events
