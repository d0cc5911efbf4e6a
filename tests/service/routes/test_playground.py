"""The page's files over HTTP: types, headers, caching, and nothing from outside their folder."""

from pathlib import Path

import httpx
import pytest

from service.routes.playground import FOLDER

FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


def test_the_root_is_the_page(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.text == (FOLDER / "index.html").read_text()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert http.head("/").status_code == 200
    assert http.post("/").status_code == 405


def test_every_file_is_served_as_what_it_is(http: httpx.Client) -> None:
    assert "app.js" in FILES
    for name in FILES:
        answer = http.get(f"/playground/{name}")
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"] == f"{TYPES[name.rpartition('.')[2]]}; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/playground/style.css"])
def test_what_is_unchanged_is_not_sent_again(http: httpx.Client, path: str) -> None:
    first = http.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_policy_allows_the_pages_own_files_and_nothing_else(http: httpx.Client) -> None:
    policy = dict(part.split(" ", 1) for part in http.get("/").headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["frame-ancestors"] == "'none'"


@pytest.mark.parametrize(
    "path",
    [
        "/playground",
        "/playground/",
        "/playground/lib",
        "/playground/none.js",
        "/playground/../app.py",
        "/playground/%2e%2e/app.py",
        "/playground/..%2fapp.py",
        "/playground/%2e%2e%2fapp.py",
        "/playground//etc/passwd",
        "/playground/%2fetc%2fpasswd",
        "/playground/lib/..%5c..%5capp.py",
        "/playground/app.js%00.css",
    ],
)
def test_nothing_else_is_served(http: httpx.Client, path: str) -> None:
    answer = http.get(httpx.URL(str(http.base_url).rstrip("/") + path), follow_redirects=True)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_of_another_kind_is_not_the_pages(http: httpx.Client, tmp_path: Path) -> None:
    stray = FOLDER / f"{tmp_path.name}.txt"
    stray.write_text("notes")
    try:
        assert http.get(f"/playground/{stray.name}").status_code == 404
    finally:
        stray.unlink()
