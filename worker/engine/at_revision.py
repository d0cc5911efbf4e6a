"""The weights of the revision that a job looks at."""

from service.errors import ProblemError
from worker.editing.progress import Step, Steps
from worker.engine.history import History
from worker.errors import CorruptStateError
from worker.models.view import Weights


def weights_of(history: History, revision: int) -> Steps[Weights]:
    """The edited weights of a revision that exists, in one step; a problem if what they are folded from is damaged."""
    yield Step("fold", 1, 1)
    try:
        return history.weights_at(revision)
    except CorruptStateError as error:
        # Of an old revision; the head is in memory and does not depend on it.
        raise ProblemError(500, "revision-damaged", str(error)) from error
