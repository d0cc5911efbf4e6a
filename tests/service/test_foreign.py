"""Who is at this machine where no key is needed: pages from elsewhere, proxies, other hosts' names; and CORS."""

import httpx
import pytest
from redis import Redis

from service.apikeys import ApiKeys
from service.auth import is_loopback
from service.contracts.access import Scope
from service.settings import Settings
from tests.service.asking_as import bearer, served


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "", "192.0.2.1")],  # noqa: S104
        *[(host, False) for host in ("example.org", "localhost.example.org", "a.localhost")],
    ],
)
def test_which_addresses_are_this_machine_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_a_foreign_page_may_not_ask_in_its_readers_name(http: httpx.Client, valkey_url: str) -> None:
    own = str(http.base_url).rstrip("/")
    assert http.get("/edits", headers={"Origin": own}).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{own}0"}):
        refused = http.post("/edits/0123456789abcdef/revert", headers=headers)
        assert refused.status_code == 403
        assert refused.json()["type"].endswith(":origin-refused")
    for host in ("evil.example", "localhost.evil.example", "[::1", ""):
        refused = http.get("/edits", headers={"Host": host})
        assert refused.status_code in (400, 403), host
    for host in ("localhost:1", "a.localhost:1", "[::1]:1"):
        assert http.get("/edits", headers={"Host": host}).status_code == 200, host
    with served(valkey_url, insecure=True) as open_to_all:
        assert open_to_all.get("/edits", headers={"Host": "lab.example"}).status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "passes"),
    [
        *[(site, "cors", True) for site in ("same-origin", "none")],
        ("same-site", "navigate", True),
        *[("same-site", mode, False) for mode in ("no-cors", "cors")],
        *[("cross-site", mode, False) for mode in ("no-cors", "cors", "navigate")],
    ],
)
def test_what_a_foreign_page_shows_of_ours_is_refused_too(
    http: httpx.Client, site: str, mode: str, passes: bool
) -> None:
    """A picture or a script of a page from elsewhere has no origin; the browser says where it comes from."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    answer = http.get("/revisions", headers=headers)
    assert answer.status_code == (200 if passes else 403)
    assert passes or answer.json()["type"].endswith(":origin-refused")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert http.get("/", headers=headers).status_code == 200, "the page itself is everybody's"


@pytest.mark.parametrize(
    "relayed",
    [
        {"X-Forwarded-For": "192.0.2.7"},
        {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"},
        {"X-Real-IP": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
    ],
)
def test_whom_a_proxy_lets_in_is_not_at_this_machine(
    http: httpx.Client, redis: Redis, valkey_url: str, relayed: dict[str, str]
) -> None:
    refused = http.get("/edits", headers=relayed)
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "host-refused")
    assert http.get("/health", headers=relayed).status_code == 200
    assert http.get("/edits", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200
    with served(valkey_url, insecure=True) as open_to_all:
        assert open_to_all.get("/edits", headers=relayed).status_code == 200
    token = ApiKeys(redis).create("ci", Scope.READ)
    assert http.get("/edits", headers={**relayed, **bearer(token)}).status_code == 200


def test_cors_is_for_named_origins_only(http: httpx.Client, redis: Redis, valkey_url: str) -> None:
    named, other = "https://lab.example", "https://evil.example"
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    assert "access-control-allow-origin" not in http.options("/edits", headers={"Origin": named, **asks}).headers
    with served(valkey_url, cors_origins=(named,)) as served_http:
        assert served_http.get("/edits", headers={"Origin": named}).headers["access-control-allow-origin"] == named
        ApiKeys(redis).create("ci", Scope.READ)
        allowed = served_http.options("/edits", headers={"Origin": named, **asks})
        assert allowed.status_code == 200
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert "access-control-allow-credentials" not in allowed.headers
        refused = served_http.options("/edits", headers={"Origin": other, **asks})
        assert "access-control-allow-origin" not in refused.headers
        answer = served_http.get("/edits", headers={"Origin": named})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == named, "the page could not read why"


@pytest.mark.parametrize("origins", ["*", "lab.example", "https://lab.example/page", "ftp://lab.example"])
def test_what_is_no_origin(monkeypatch: pytest.MonkeyPatch, origins: str) -> None:
    monkeypatch.setenv("PALIMPSEST_CORS_ORIGINS", origins)
    with pytest.raises(ValueError, match="must be an origin"):
        Settings()


def test_origins_stand_with_commas_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_CORS_ORIGINS", "https://a.example, http://b.example:3000")
    assert Settings().cors_origins == ("https://a.example", "http://b.example:3000")
