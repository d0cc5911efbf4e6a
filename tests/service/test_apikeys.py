"""API keys: what is kept of them, who is recognised, and that names are used once."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from service.apikeys import KEYS, ApiKeys, name_in, recognised
from service.contracts.access import Scope
from service.errors import ProblemError


def kept(redis: Redis, token: str) -> str | None:
    name = name_in(token)
    text = redis.hget(KEYS, name or "")
    assert text is None or isinstance(text, str)
    return text


def test_a_key_is_recognised_until_it_is_revoked(redis: Redis) -> None:
    keys = ApiKeys(redis)
    assert not keys.in_use()
    token = keys.create("ci", Scope.EDIT)
    found = recognised(token, kept(redis, token))
    assert found is not None
    assert found.scope is Scope.EDIT
    keys.revoke("ci")
    assert recognised(token, kept(redis, token)) is None
    assert keys.in_use()


def test_nothing_in_redis_opens_anything(redis: Redis) -> None:
    token = ApiKeys(redis).create("ci", Scope.READ)
    secret = token.partition(".")[2]
    assert len(secret) >= 43
    text = str(redis.hgetall(KEYS))
    assert secret not in text
    assert "ci" in text


def test_two_keys_have_nothing_in_common(redis: Redis) -> None:
    keys = ApiKeys(redis)
    one, other = keys.create("a", Scope.READ), keys.create("b", Scope.ADMIN)
    swapped = f"palimpsest_b.{one.partition('.')[2]}"
    assert recognised(swapped, kept(redis, swapped)) is None
    assert recognised(one, kept(redis, other)) is None


def test_a_name_is_used_once(redis: Redis) -> None:
    keys = ApiKeys(redis)
    keys.create("ci", Scope.READ)
    keys.revoke("ci")
    with pytest.raises(ProblemError, match="never used again") as refused:
        keys.create("ci", Scope.ADMIN)
    assert refused.value.problem.status == 409
    assert [key.scope for key in keys.listed()] == [Scope.READ]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "ä", "x" * 65, "a\n"])
def test_a_name_that_would_be_ambiguous(redis: Redis, name: str) -> None:
    with pytest.raises(ProblemError, match="letters, digits"):
        ApiKeys(redis).create(name, Scope.READ)
    assert not ApiKeys(redis).in_use()


def test_keys_are_listed_in_the_order_in_which_they_were_made(redis: Redis) -> None:
    keys = ApiKeys(redis)
    for name in ("z", "a", "m"):
        keys.create(name, Scope.READ)
    keys.revoke("a")
    keys.revoke("a")
    listed = keys.listed()
    assert [key.name for key in listed] == ["z", "a", "m"]
    assert [key.revoked_at is not None for key in listed] == [False, True, False]
    with pytest.raises(ProblemError, match="keys list"):
        keys.revoke("nobody")


def test_scopes_include_each_other() -> None:
    for more, scope in enumerate(Scope):
        assert [other for other in Scope if scope.includes(other)] == list(Scope)[: more + 1]


@given(st.text() | st.text(string.ascii_letters + "_.-", max_size=80))
def test_no_other_text_is_a_key(text: str) -> None:
    assert recognised(text, None) is None
    name = name_in(text)
    assert name is None or text.startswith(f"palimpsest_{name}.")
