"""The edits of a model: long jobs that may end as a revision, and are then in force or not."""

from collections import Counter
from collections.abc import Callable, Iterable

from redis import Redis

from service.contracts.edits import AnyEditRequest, Edit, EditStatus, Outcome
from service.contracts.jobs import has_ended
from service.contracts.problem import Problem
from service.documents import Shape, cut, request_fields
from service.jobs import Jobs, utcnow
from service.keys import Keys

IsActive = Callable[[str], bool]
"""Says whether an applied edit is in force at the head."""


def _always(_: str) -> bool:
    return True


class Edits(Jobs[AnyEditRequest, Edit]):
    """The edit documents of one model; what is applied, and not in force by `is_active`, is seen as reverted."""

    instead = "Roll back instead."

    def __init__(self, redis: Redis, keys: Keys) -> None:
        super().__init__(redis, keys, Shape(Edit, found="outcome"))

    def asked(self, request: AnyEditRequest) -> dict[str, str]:
        """The fields with which an edit begins."""
        return {**request_fields(request), "fact_count": str(len(request.facts)), "method": request.method}

    def get(self, job_id: str, is_active: IsActive = _always) -> Edit:
        """One edit with all its facts."""
        return _seen(super().get(job_id), is_active)

    def glance(self, job_id: str, is_active: IsActive = _always) -> Edit:
        """One edit with the first few facts, at a cost that does not grow with their number."""
        return _seen(super().glance(job_id), is_active)

    def glance_again(self, job: Edit, is_active: IsActive = _always) -> Edit:
        """The same edit as it is now; what never changes of it is not read again."""
        return _seen(super().glance_again(job), is_active)

    def page(
        self, before: int | None, limit: int, is_active: IsActive, status: EditStatus | None = None
    ) -> tuple[list[Edit], int | None]:
        """Up to `limit` edits at a glance, newest first, numbered below `before`; and the cursor that follows."""
        return self.newest(before, limit, status, lambda edit: _seen(edit, is_active))

    def unended(self, edit_ids: Iterable[str]) -> Counter[tuple[str, str]]:
        """How many of these are queued or running, by method and status; no request is read for it."""
        pipeline = self._redis.pipeline(transaction=False)
        for edit_id in edit_ids:
            pipeline.hmget(self._keys.job(self.noun, edit_id), "method", "status")
        return Counter((method or "", status) for method, status in pipeline.execute() if not has_ended(status))

    def end(
        self, edit_id: str, status: EditStatus, problem: Problem | None = None, outcome: Outcome | None = None
    ) -> bool:
        """Move a pending edit to a state it stays in; False if it has ended already."""
        return self.end_as(edit_id, status, problem, None if outcome is None else cut("outcome", outcome))


def applied_fields(revision: int, outcome: Outcome) -> dict[str, str]:
    """The fields that the ledger writes into an edit, in the same atomic step in which it appends the revision."""
    return {
        "status": EditStatus.APPLIED.value,
        "ended_at": utcnow().isoformat(),
        "revision": str(revision),
        "progress": "",
        **cut("outcome", outcome),
    }


def _seen(edit: Edit, is_active: IsActive) -> Edit:
    if edit.status is EditStatus.APPLIED and not is_active(edit.id):
        return edit.model_copy(update={"status": EditStatus.REVERTED})
    return edit
