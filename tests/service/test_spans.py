"""Spans are off unless they are asked for; the caller's trace is taken over only if it is one."""

import logging

import pytest

from service import spans as module
from service.origin import ORIGIN, Origin
from service.spans import ENDPOINTS, sending
from service.telemetry import _traceparent

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_made_unless_the_environment_says_where_it_goes() -> None:
    token = ORIGIN.set(Origin("one", TRACEPARENT))
    with sending("api") as spans, spans.within("GET", "SERVER") as span:
        assert not spans.on
        assert span is None
        assert ORIGIN.get() == Origin("one", TRACEPARENT)
    ORIGIN.reset(token)


def test_a_missing_extra_is_told_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING), sending("api") as spans:
        assert not spans.on
    assert "pip install 'palimpsest[otel]'" in caplog.text


def test_what_is_no_traceparent_is_not_passed_on() -> None:
    assert _traceparent(TRACEPARENT) == TRACEPARENT
    for given in ("", "00-xyz", TRACEPARENT + "\n", TRACEPARENT.upper(), f"{TRACEPARENT}-more", "0" * 1000):
        assert _traceparent(given) == ""


def test_a_header_that_is_badly_written_is_told_without_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer hunter2")
    with caplog.at_level(logging.WARNING), sending("api") as spans:
        assert spans.on
    assert "OTEL_EXPORTER_OTLP_HEADERS: write name=value" in caplog.text
    assert "hunter2" not in caplog.text
