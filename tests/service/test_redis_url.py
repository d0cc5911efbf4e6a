"""A wrong REDIS_URL is told in plain words, and no part of its password is."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import service.settings
import worker.settings
from service.claims import UpError
from service.keyring import api_keys
from service.redis_url import sound_url

WRONG = (
    "redis://:hunter2/secret@127.0.0.1:6379/0",
    "redis://hunter2/secret@127.0.0.1",
    "redis://:hunter2#secret@127.0.0.1:6379/0",
    "redis://127.0.0.1:6379/0#hunter2",
    "redis://:hunter2?secret@127.0.0.1:6379/0",
    "redis//:hunter2@127.0.0.1/0",
    "redis://:hunter2@127.0.0.1:6379x/0",
    "redis://:hunter2@127.0.0.1:6379/0?socket_timeout=hunter2",
    "redis://:hunter2@127.0.0.1/first",
    "hunter2",
)


@pytest.mark.parametrize("url", WRONG)
def test_what_is_wrong_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    for settings in (service.settings.Settings, worker.settings.Settings):
        with pytest.raises(ValidationError, match="must read redis://:PASSWORD@HOST") as refused:
            settings()
        assert "hunter2" not in str(refused.value)
    with pytest.raises(UpError, match="REDIS_URL: must read") as told, api_keys(url, tmp_path):
        pass
    assert "hunter2" not in str(told.value)
    assert told.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://:a%2Fb%23c@[::1]:6379/",
        "rediss://user:p@w@redis.example:6380/3?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_what_the_client_takes_is_taken(url: str) -> None:
    assert sound_url(url) == url
