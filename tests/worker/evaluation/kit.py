"""Facts to score, and how they are scored by themselves."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from service.contracts.edits import Fact
from service.contracts.scores import Metrics
from tests.driving import finish
from worker.engine.resident import Resident
from worker.evaluation.metrics import measure
from worker.models.view import Weights

REWRITE = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"}
FULL = Fact.model_validate(
    {
        **REWRITE,
        "target_true": "football",
        "paraphrases": ["The sport of Lionel Messi is", "Messi plays", "Москва"],
        "neighborhood": ["The city of", "Michael Jordan plays", "A", "Question: What sport does Messi play? Answer:"],
    }
)
NEW_ALONE = FULL.model_copy(update={"target_true": None})
BARE = Fact.model_validate(REWRITE)


def measured_alone(resident: Resident, fact: Fact, weights: Weights) -> Metrics:
    (measured,) = finish(measure(resident.loaded, [fact], sides_view(resident, weights)))
    return measured


def sides_view(resident: Resident, weights: Weights) -> Callable[[int], AbstractContextManager[None]]:
    return lambda rows: resident.view([{}] * rows + [weights] * rows)
