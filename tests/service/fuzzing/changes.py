"""Changes to a request, each small and made at random, that a client may make by mistake or to do harm."""

import copy
import json
import string
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from tests.service.fuzzing.drafts import Draft

WORDS = (
    *(
        "",
        " ",
        "\0",
        "\ud800",
        "\udfff\ud800",
        "\N{RIGHT-TO-LEFT OVERRIDE}x",
        "e\N{COMBINING ACUTE ACCENT}" * 40,
        "\r\n\r\nX: y",
    ),
    *("..", "../../etc/passwd", "/etc/passwd", "%2e%2e%2f", "C:\\x", "file:///etc/passwd", "~root", "a" * 3000),
    *("{0.__class__.__mro__}", "%s%n%d", "${7*7}", "{{7*7}}", "os.system", "__import__('os')", "' OR 1=1 --", "*"),
    *(
        "\N{PILE OF POO}",
        "\N{FULLWIDTH DIGIT NINE}",
        "null",
        "NaN",
        "-0",
        "1e999",
        "0x10",
        "١٢٣",
        "<script>",
        "r3",
        "base",
    ),
)
"""Strings that have meant something to somebody."""

NUMBERS = (
    *(0, -1, 1, 2, 3, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400),
    *(0.0, -0.0, 0.1, 1.5, 1e-320, 1e308, -1e308, float("inf"), float("nan")),
)

VALUES: tuple[Any, ...] = (*WORDS, *NUMBERS, None, True, False, [], {}, [None], [[]], {"": ""}, {"a": {"b": []}})

MEDIA_TYPES = (
    *("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
    *("application/json; charset=utf-16", "application/problem+json", "application/jsonx", "json", "", "*/*", ";"),
    *("application/x-python-pickle", "application/json, text/plain", "APPLICATION/JSON", "application/vnd.api+json"),
)

HEADERS: Mapping[str, Sequence[str]] = {
    "Authorization": ("Bearer x", "Basic eDp5", "Bearer palimpsest_fuzz.x", "", "\xff"),
    "Accept": ("text/html", "image/*;q=0", "nonsense", "text/event-stream", "*/*;q=1e9"),
    "Accept-Encoding": ("br", "gzip;q=0", "identity;q=0, *;q=0"),
    "Accept-Language": ("de", "x" * 200),
    "Cache-Control": ("only-if-cached", "max-age=-1"),
    "Cookie": ("a=b", "; ; =", "session=" + "x" * 900),
    "Content-Encoding": ("gzip", "identity", "br, gzip"),
    "Expect": ("nothing",),
    "Forwarded": ("for=127.0.0.1;host=evil.example",),
    "Idempotency-Key": ("1", "two words", "x" * 200, "x" * 201, "\xe9", "a:b", "../k", ""),
    "If-Match": ("*", '"x"'),
    "If-Modified-Since": ("yesterday", "Tue, 24 Nov 2026 19:00:00 GMT"),
    "If-None-Match": ("*", '"x"', 'W/"'),
    "Last-Event-ID": ("1", "-1", "x" * 500, "\xff"),
    "Origin": ("null", "https://evil.example", "http://localhost:1"),
    "Prefer": ("respond-async",),
    "Range": ("bytes=0-0", "bytes=-1", "bytes=5-1", "bytes=0-0,1-1,2-2", "lines=1"),
    "Referer": ("javascript:alert(1)",),
    "Traceparent": ("00-0-0-00", "00-" + "f" * 32 + "-" + "f" * 16 + "-01", "x" * 300, "\xa0"),
    "Tracestate": ("a=b", "=" * 100),
    "User-Agent": ("", "() { :; }; echo", "\xe9" * 50),
    "X-Forwarded-For": ("127.0.0.1", "::1, evil", "%"),
    "X-Forwarded-Proto": ("https", "gopher"),
    "X-Http-Method-Override": ("DELETE", "TRACE"),
    "X-Request-Id": ("mine", "a b", "x" * 65, "../../x", "{0}", "\xe9"),
}

METHODS = ("PATCH", "PUT", "OPTIONS", "TRACE", "PROPFIND", "get", "Post")
"""None of which any path takes."""

Change = Callable[[Random, Draft], None]


def some_word(random: Random) -> str:
    """One of the words, or a few of any characters."""
    if random.random() < 0.6:
        return random.choice(WORDS)
    letters = string.printable if random.random() < 0.5 else [chr(random.randrange(1, 0x2FFF)) for _ in range(12)]
    return "".join(random.choice(letters) for _ in range(random.randrange(1, 24)))


def some_value(random: Random) -> Any:
    """Any JSON value, seldom a deep or a long one."""
    chance = random.random()
    if chance < 0.02:
        value: Any = 1
        for _ in range(random.choice((5, 40, 300))):
            value = [value] if random.random() < 0.5 else {"a": value}
        return value
    if chance < 0.04:
        return [random.choice(VALUES)] * random.choice((5, 70, 700))
    return copy.deepcopy(random.choice(VALUES)) if chance < 0.6 else some_number_or_word(random)


def some_number_or_word(random: Random) -> Any:
    return random.randrange(-(10**6), 10**9) if random.random() < 0.4 else some_word(random)


def change_body(random: Random, draft: Draft) -> None:
    """One value somewhere in the body becomes another, goes, is joined by an unknown one, or is there many times."""
    if isinstance(draft.body, bytes):
        return
    inner = [place for place in _containers(draft.body) if place]
    if not inner or random.random() < 0.05:
        draft.body = some_value(random)
        return
    place = random.choice(inner)
    at = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
    _change_at(random, place, at)


def _change_at(random: Random, place: Any, at: Any) -> None:
    chance = random.random()
    if chance < 0.5:
        place[at] = some_value(random)
    elif chance < 0.62:
        del place[at]
    elif chance < 0.74:
        place[at] = [place[at]] * random.choice((1, 2, 60))
    elif chance < 0.82:
        place[at] = str(place[at])
    elif isinstance(place, dict):
        name = some_word(random) if chance < 0.92 else str(at).upper()
        place[name] = some_value(random)
    else:
        place.append(copy.deepcopy(random.choice(place)))


def _containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(one for inner in value.values() for one in _containers(inner))]
    if isinstance(value, list):
        return [value, *(one for inner in value for one in _containers(inner))]
    return []


def vary_body(random: Random, draft: Draft) -> None:
    """A value becomes another of its kind, which may well be accepted."""
    inner = [place for place in _containers(draft.body) if place]
    if inner:
        place = random.choice(inner)
        at = random.choice(list(place)) if isinstance(place, dict) else random.randrange(len(place))
        match place[at]:
            case bool():
                place[at] = not place[at]
            case int() | float():
                place[at] = random.choice((place[at] + 1, random.randrange(10), random.random()))
            case str():
                place[at] = (
                    f"{random.choice(('', ' ', some_word(random)[:40]))} {place[at]}{random.choice(('', '.', '!'))}"
                )


def spoil_body(random: Random, draft: Draft) -> None:
    """The bytes of the body become others, mostly no JSON any longer."""
    content = draft.content or b"{}"
    at = random.randrange(len(content) + 1)
    draft.body = random.choice(
        (
            lambda: content[:at],
            lambda: content[:at] + bytes([random.randrange(256)]) + content[at + 1 :],
            lambda: content + random.choice((b"}", b"\0", b" 1", b"\n\n", b"{}")),
            lambda: b"\xef\xbb\xbf" + content,
            lambda: content.decode(errors="replace").encode(random.choice(("utf-16", "utf-32", "utf-7"))),
            lambda: content[:at] + b"\xc3\x28" + content[at:],
            lambda: b"[" * random.choice((20, 500, 5000)) + content,
            lambda: content.replace(b"{", b'{"a": ' + b"9" * random.choice((5, 400, 5000)) + b", ", 1),
            lambda: json.dumps(content.decode(errors="replace")).encode(),
            lambda: b"prompt=a&subject=b&n=" + str(at).encode(),
        )
    )()


def repeat_key(random: Random, draft: Draft) -> None:
    """A key comes twice, with two values."""
    if isinstance(draft.body, dict) and draft.body:
        key = random.choice(list(draft.body))
        twice = {key: some_value(random)}
        draft.body = json.dumps(twice)[:-1].encode() + b", " + json.dumps(draft.body)[1:].encode()


def change_media_type(random: Random, draft: Draft) -> None:
    draft.headers["Content-Type"] = random.choice(MEDIA_TYPES)


def change_header(random: Random, draft: Draft) -> None:
    """A header that the API knows, or may be thought to know, says something odd."""
    name = random.choice(list(HEADERS))
    value = random.choice(HEADERS[name])
    if random.random() < 0.3:
        value = "".join(random.choice(string.ascii_letters + string.digits + "-._~ !*;=,") for _ in range(20)).strip()
    draft.headers[name] = value


def unknown_header(random: Random, draft: Draft) -> None:
    draft.headers[f"X-{random.randrange(10**6)}"] = "x" * random.choice((0, 1, 50, 4000))


def change_query(random: Random, draft: Draft) -> None:
    """A parameter becomes another, goes, comes twice, or is one that nobody knows."""
    value = str(some_number_or_word(random))
    if not draft.query or random.random() < 0.2:
        draft.query.append((some_word(random)[:200] or "x", value))
        return
    at = random.randrange(len(draft.query))
    name, before = draft.query[at]
    draft.query[at : at + 1] = random.choice(
        ([(name, value)], [], [(name, before), (name, value)], [(name + "[]", before)], [(name.upper(), before)])
    )


def change_place(random: Random, draft: Draft) -> None:
    """What stands in the path becomes something else."""
    if draft.places:
        name = random.choice(list(draft.places))
        known = draft.places[name]
        draft.places[name] = random.choice(
            (
                lambda: some_word(random),
                lambda: str(random.choice(NUMBERS))[:300],
                lambda: known + some_word(random)[:50],
                known.upper,
                lambda: known[:-1],
                lambda: f"{random.getrandbits(64):016x}",
            )
        )()


def change_method(random: Random, draft: Draft) -> None:
    draft.method = random.choice(METHODS)


OF_BODY: tuple[Change, ...] = (*(change_body, vary_body) * 6, spoil_body, repeat_key, change_media_type)
OF_ALL: tuple[Change, ...] = (change_header, unknown_header, change_query)


def changed(random: Random, draft: Draft) -> Draft:
    """A copy of the draft with one change, or a few."""
    made = copy.deepcopy(draft)
    changes: list[Change] = [*OF_ALL]
    if draft.body is not None:
        changes += OF_BODY * 2
    if draft.query:
        changes += [change_query] * 12
    if draft.places:
        changes += [change_place] * 2
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        random.choice(changes)(random, made)
    if random.random() < 0.01:
        change_method(random, made)
    return made
