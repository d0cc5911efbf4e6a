"""Settings of the worker, from the environment: prefix PALIMPSEST_, and REDIS_URL."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.keys import blobs_place
from service.logs import Format
from service.redis_url import RedisUrl

HPARAMS = Path(__file__).resolve().parent.parent / "hparams"


class Settings(BaseSettings):
    """What the worker needs to know."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_", populate_by_name=True, hide_input_in_errors=True)

    model: str = Field("smollm2-135m", description="smollm2-135m, a Hugging Face id, or a local folder")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    data_dir: Path = Path(".palimpsest")
    blobs: str | None = Field(
        None,
        description="where deltas and the ledger's second copy are kept: a folder, or an fsspec URL such as "
        "s3://bucket/prefix; else in the data directory. Workers on several hosts share it",
    )
    redis_url: RedisUrl | None = Field(None, validation_alias=AliasChoices("REDIS_URL", "redis_url"))
    compute_dtype: Literal["auto", "model", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of value optimisations; auto is bfloat16 where this machine multiplies it much faster"
    )
    hparams_dir: Path = HPARAMS
    corpus: Path | None = Field(None, description="a text file, or a folder of them, for mom2_dataset: corpus")
    stats_dir: Path | None = Field(None, description="published files of key statistics, read before any is computed")
    max_perplexity_ratio: float | None = Field(
        None, gt=0, description="of the head; beyond it further edits are refused. So with the two below"
    )
    max_kl: float | None = Field(None, gt=0, description="KL(base || head) on the neutral sentences, nats a token")
    max_norm: float | None = Field(None, gt=0, description="|W - W_base| / |W_base| of any one layer")
    cache_bytes: int = Field(
        2**30, ge=0, description="of old revisions' weights that are kept on the device, and of deltas in memory"
    )
    max_batch_rows: int | None = Field(
        None, ge=1, description="continuations decoded together; else 32 on a CPU, 128 on a GPU"
    )
    reading_bytes: int | None = Field(
        None,
        ge=0,
        description="of continuations' keys and values; else a quarter of the memory that is free",
    )
    stalled_seconds: float = Field(
        300.0, gt=0, description="a worker one of whose steps takes longer is not ready, and told to be restarted"
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="where Prometheus reads the worker's metrics; else they are not served"
    )
    metrics_host: str = Field("127.0.0.1", description="the address of that port")
    log_format: Format = Field("text", description="json: one object a line, with the request id of each job")
    lease_seconds: float = Field(10.0, gt=0, description="a worker silent for so long has lost the model to another")

    def blobs_of(self, model: str) -> str:
        """The folder, or URL, of the blobs of the model that is served under this name."""
        return blobs_place(self.blobs, self.data_dir, model)
