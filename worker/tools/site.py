"""Where a tool works: one model's Redis, its blobs and the ledger's second copy."""

from dataclasses import dataclass
from typing import Any

from redis import Redis

from service.keys import Keys, model_name
from worker.engine.blobs import BlobStore
from worker.engine.mirror import Mirror, ledger_head
from worker.engine.resident import Resident
from worker.errors import WorkerError
from worker.settings import Settings


@dataclass(frozen=True)
class Site:
    """settings: of the worker that serves this model here."""

    settings: Settings
    redis: Any
    keys: Keys
    blobs: BlobStore
    mirror: Mirror

    @classmethod
    def of(cls, settings: Settings) -> "Site":
        """The site that the settings name; REDIS_URL must be among them."""
        if settings.redis_url is None:
            raise WorkerError(
                "REDIS_URL is not set. Set it, or use the palimpsest command, which brings its own Redis."
            )
        name = model_name(settings.model)
        redis, keys, place = (
            Redis.from_url(settings.redis_url, decode_responses=True),
            Keys(name),
            settings.blobs_of(name),
        )
        return cls(settings, redis, keys, BlobStore(place), Mirror(place, redis, keys))

    @property
    def head(self) -> int:
        """The newest revision in Redis; -1 while there is none."""
        return ledger_head(self.redis, self.keys)

    def require_ledger(self) -> int:
        """The head, where Redis has all that was committed and that is anything; raises WorkerError otherwise."""
        self.mirror.check()
        if (head := self.head) < 0:
            raise WorkerError(
                f"There is no ledger of {self.keys.model} here. Name its --model and its --data-dir. "
                "In a new installation, start a server once first: it writes r0."
            )
        return head

    def resident(self) -> Resident:
        """The model itself, loaded."""
        # transformers takes seconds to import, and most tools do without
        from transformers.utils import logging  # noqa: PLC0415

        from worker.models.loading import load  # noqa: PLC0415

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        settings = self.settings
        return Resident(load(settings.model, settings.dtype, settings.device, settings.data_dir))
