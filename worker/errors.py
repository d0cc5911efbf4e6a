"""Errors of the worker: those that end it, and those that end an edit."""

from service.errors import ProblemError


class WorkerError(Exception):
    """The worker cannot serve; its message says what to do, and the process exits with `exit_code`."""

    exit_code = 1


class ModelNotFoundError(WorkerError):
    """The model's folder, file or id leads nowhere."""

    exit_code = 2


class UnsupportedModelError(WorkerError):
    """The model's architecture is not among the families, or lacks what editing needs."""

    exit_code = 3


class WrongBaseError(WorkerError):
    """The ledger belongs to other base weights."""

    exit_code = 4


class CorruptStateError(WorkerError):
    """A blob or a tensor does not have the checksum that the ledger names."""

    exit_code = 5


class MissingBlobError(CorruptStateError):
    """A blob that the ledger names is not there; where others write, it may be on its way."""


class LeaseLostError(WorkerError):
    """Another worker has taken over; this one must not write any more."""

    exit_code = 6


class LedgerBehindError(WorkerError):
    """Redis lacks revisions that were committed, or has others in their place."""

    exit_code = 7


class DeviceError(WorkerError):
    """The device can compute nothing more in this process; a new one may."""

    exit_code = 8


class StorageError(ProblemError):
    """Where blobs are kept there is no room, or no answer; nothing was changed."""


class EditError(Exception):
    """An edit cannot be computed as asked; the message names the field and says what to do."""

    def __init__(self, name: str, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.name = name
        self.field = field
        self.detail = detail

    def of_fact(self, index: int) -> "EditError":
        """The same error, of one fact of a batch; what the hyperparameters cause is no fact's."""
        if self.field.startswith("hparams"):
            return self
        return EditError(self.name, f"facts[{index}].{self.field}", self.detail)
