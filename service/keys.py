"""The names that service and worker share in Redis; every key of a model carries the model's name."""

from dataclasses import dataclass
from pathlib import Path


def model_name(model: str) -> str:
    """The name under which a model is served: a Hugging Face id as it is, a folder by its last part."""
    if model.startswith((".", "/", "~")):
        return model.rstrip("/").rsplit("/", 1)[-1]
    return model


def blobs_place(blobs: str | None, data_dir: Path, model: str) -> str:
    """The folder, or URL, of the blobs of the model that is served under this name, as the settings have it."""
    root = blobs or str(data_dir / "blobs")
    return f"{root.rstrip('/')}/{model.replace('/', '--')}"


@dataclass(frozen=True)
class Keys:
    """Redis keys of one model. `model` is what `model_name` returns."""

    model: str

    def _key(self, *parts: str) -> str:
        return ":".join(("palimpsest", self.model, *parts))

    @property
    def ledger(self) -> str:
        """Stream of entries; revision r has the id r-1."""
        return self._key("ledger")

    def jobs(self, noun: str) -> str:
        """Sorted set of the ids of all jobs of a kind, by sequence number."""
        return self._key(f"{noun}s")

    @property
    def pending(self) -> str:
        """Sorted set of the jobs of all kinds that are queued or running, by sequence number."""
        return self._key("pending")

    @property
    def sequence(self) -> str:
        """Counter behind the sequence numbers."""
        return self._key("sequence")

    def job(self, noun: str, job_id: str) -> str:
        """Hash with one job."""
        return self._key(noun, job_id)

    def job_channel(self, noun: str, job_id: str) -> str:
        """Channel on which every change of a job is announced."""
        return self._key(noun, job_id, "changed")

    def edit(self, edit_id: str) -> str:
        """Hash with one edit."""
        return self.job("edit", edit_id)

    def edit_channel(self, edit_id: str) -> str:
        """Channel on which every change of an edit is announced."""
        return self.job_channel("edit", edit_id)

    def idempotency(self, noun: str, key: str, by: str = "") -> str:
        """Remembers the job that an Idempotency-Key made. by: the name of the API key whose word it is, if any."""
        return self._key("idempotency-of", by, noun, key) if by else self._key("idempotency", noun, key)

    @property
    def failed_checks(self) -> str:
        """Counter of the blobs and revisions that were found not to be what the ledger names."""
        return self._key("failed-checks")

    @property
    def lease(self) -> str:
        """Held by the one worker that may append to the ledger, the leader; its value is the fencing token."""
        return self._key("lease")

    @property
    def fence(self) -> str:
        """Counter behind the fencing tokens."""
        return self._key("fence")

    def worker(self, name: str) -> str:
        """One worker's heartbeat; it expires."""
        return self._key("worker", name)

    @property
    def workers(self) -> str:
        """Sorted set of workers by the Unix time of their last beat; those that have a heartbeat are among them."""
        return self._key("workers")

    @property
    def card(self) -> str:
        """The model card that the last worker published."""
        return self._key("card")

    @property
    def tokenizer(self) -> str:
        """The serialized fast tokenizer that the last worker published."""
        return self._key("tokenizer")

    @property
    def lane(self) -> str:
        """Stream of generation requests, which every worker reads."""
        return f"generate:{self.model}"

    @property
    def moves(self) -> str:
        """Stream of requests to move the head, which the leader alone reads."""
        return f"moves:{self.model}"

    def answers(self, asker: str) -> str:
        """Stream that takes the workers' answers to one API process; it expires."""
        return self._key("answers", asker)

    @property
    def gone(self) -> str:
        """Channel on which requests are named that nobody waits for any longer."""
        return self._key("gone")

    @property
    def queue(self) -> str:
        """RQ queue of the edits and of every other long job."""
        return f"edits:{self.model}"
