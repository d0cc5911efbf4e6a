"""Settings of the HTTP side, from the environment: prefix PALIMPSEST_, and REDIS_URL."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.contracts.edits import MOST_FACTS
from service.keys import Keys, blobs_place, model_name
from service.logs import Format
from service.redis_url import RedisUrl


def _parted(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s*?#@,]+", value):
        raise ValueError("must be an origin such as https://lab.example.org, without a path")
    return value


Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_parted)]
"""Origins with commas between them."""


class Settings(BaseSettings):
    """What the API and the supervisor need to know."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_", populate_by_name=True, hide_input_in_errors=True)

    model: str = Field("smollm2-135m", description="smollm2-135m, a Hugging Face id, or a local folder")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    data_dir: Path = Path(".palimpsest")
    blobs: str | None = Field(None, description="as of the workers, whose exports are read there")
    redis_url: RedisUrl | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL", "redis_url"),
        description="a Redis of your own; without it, `up` starts an embedded one",
    )
    generate_timeout: float = Field(
        60.0, gt=0, description="seconds that a client waits for a generation, at most and by default"
    )
    max_waiting: int = Field(
        256,
        ge=1,
        description="generations that wait or are being answered, over all API processes",
    )
    max_rows: int = Field(64, ge=1, description="continuations of one request: prompts x sides x n")
    max_request_tokens: int = Field(32768, ge=1, description="tokens of one request: continuations x max_new_tokens")
    max_exports: int = Field(
        4, ge=1, description="archives that one API process sends at a time; to one caller one less, but at least one"
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="of `up`: where the first worker serves its metrics; the others follow it"
    )
    log_format: Format = Field("text", description="json: one object a line, with the request id of each")
    max_body_bytes: int = Field(8_000_000, gt=0, description="10,000 facts of CounterFact take about 7 million")
    max_facts: int = Field(MOST_FACTS, ge=1, le=MOST_FACTS, description="facts of one edit")
    insecure: bool = Field(
        False, description="serve others than this machine without keys too, whatever page or host they come from"
    )
    rate: float = Field(50.0, gt=0, description="requests a second of one key; of one address, where no key is needed")
    burst: int = Field(200, ge=1, description="requests that come at once after a pause")
    max_concurrent: int = Field(64, ge=1, description="requests of one caller at a time, in one API process")
    max_connections: int = Field(
        256,
        ge=1,
        description="open connections of one address, in one API process; of proxies (FORWARDED_ALLOW_IPS) any number",
    )
    request_timeout: float = Field(
        60.0,
        gt=0,
        description="seconds in which a request must have arrived, body and all, and some of its answer be taken",
    )
    cors_origins: Origins = Field((), description="pages of other origins that may use the API from a browser")

    @property
    def blobs_place(self) -> str:
        """The folder, or URL, of the model's blobs."""
        return blobs_place(self.blobs, self.data_dir, self.keys.model)

    @property
    def keys(self) -> Keys:
        """The Redis keys of the model."""
        return Keys(model_name(self.model))
