"""What the writers of a load run do: edits, one after the other, and moves of the head that cross them."""

import time

from benchmarks.loading.caller import Caller
from benchmarks.loading.checks import check_target, require
from benchmarks.loading.reading import check_comparisons
from service.contracts.edits import Edit, EditRequest, EditStatus
from service.contracts.generate import GenerateRequest
from service.contracts.revisions import Revision, RevisionKind

BACK = 12
"""How many revisions a rollback goes back at most; but now and then it goes to the base."""

TO_THE_BASE = 0.15
"""How often it does."""

LOOK_SECONDS = 0.1

MOVES = ("rollback", "revert", "reapply")


def edit(caller: Caller) -> None:
    """POST /edits, its events until it ends, and what its revision says; an edit must reach its target."""
    plan, fact = caller.plan, caller.draw.choice(caller.plan.facts)
    asked = {"method": plan.method, "hparams": plan.hparams, "require": {"efficacy": True}}
    request = EditRequest.model_validate({**fact.model_dump(include={"prompt", "subject", "target_new"}), **asked})
    begin = time.perf_counter()
    with caller.tally.timed("submit"):
        queued = caller.client.edits.submit(request)
    *_, last = caller.client.edits.events(queued.id)
    caller.tally.took("edit", time.perf_counter() - begin)
    ended = caller.client.edits.get(queued.id)
    require(ended.request == request and last.status.ended, f"edit {ended.id} is {last.status} of {ended.request}")
    if ended.status is EditStatus.REJECTED and ended.problem is not None:
        caller.tally.refused(f"edit: {ended.problem.title}")
    else:
        _check_edit(caller, request, ended, caller.truth.applied(ended))


def move(caller: Caller) -> None:
    """A rollback, a revert or a reapply; then nothing until a further edit has ended, and the next one runs.

    An edit under which the head moves is computed again: if it moved all the time, none would come through.
    """
    ended = caller.tally.count("edit")
    head = caller.client.revisions.get(caller.client.revisions.page(1).revisions[0].revision)
    caller.truth.listed(head)
    gone = sorted(caller.truth.edits.keys() - set(head.active))
    kind = caller.draw.choice(["rollback", *["revert"] * bool(head.active), *["reapply"] * bool(gone)])
    {"rollback": _rollback, "revert": _revert, "reapply": _reapply}[kind](caller, head, gone)
    while caller.tally.count("edit") == ended and not caller.over.wait(LOOK_SECONDS):
        pass
    caller.over.wait(caller.plan.pause * caller.draw.random())


def _rollback(caller: Caller, head: Revision, _: list[str]) -> None:
    far = caller.draw.random() < TO_THE_BASE
    to = 0 if far else caller.draw.randint(max(0, head.revision - BACK), head.revision)
    with caller.tally.timed("rollback"):
        line = caller.client.rollback(to)
    _check_move(caller, head, line, RevisionKind.ROLLBACK)
    old = caller.client.revisions.get(to)
    require(line.to == to and line.active == old.active, f"r{line.revision} goes back to r{to}: {line}")
    require(line.checksum == old.checksum, f"r{line.revision} has other weights than r{to}, to which it goes back")
    before, after = _sides(caller, caller.draw.choice(caller.plan.prompts), to, line.revision)
    require(before == after, f"r{line.revision} says {after!r}, and r{to}, to which it goes back, {before!r}")


def _revert(caller: Caller, head: Revision, _: list[str]) -> None:
    edit_id = caller.draw.choice(head.active)
    with caller.tally.timed("revert"):
        line = caller.client.revert(edit_id).revision
    _check_move(caller, head, line, RevisionKind.REVERT)
    require(line.edit == edit_id and edit_id not in line.active, f"r{line.revision} takes {edit_id} out: {line}")


def _reapply(caller: Caller, head: Revision, gone: list[str]) -> None:
    edit_id = caller.draw.choice(gone)
    with caller.tally.timed("reapply"):
        line = caller.client.reapply(edit_id)
    _check_move(caller, head, line, RevisionKind.REAPPLY)
    require(line.edit == edit_id and edit_id in line.active, f"r{line.revision} puts {edit_id} back: {line}")


def _check_move(caller: Caller, head: Revision, line: Revision, kind: RevisionKind) -> None:
    require(line.kind is kind and line.revision > head.revision, f"after r{head.revision} a {kind} makes {line}")
    caller.truth.listed(line)
    again = caller.client.revisions.get(line.revision)
    require(again == line, f"r{line.revision} is told as {line}, and then as {again}")


def _check_edit(caller: Caller, request: EditRequest, ended: Edit, revision: int) -> None:
    line = caller.client.revisions.get(revision)
    caller.truth.listed(line)
    require(line.kind is RevisionKind.EDIT and line.edit == ended.id, f"r{revision} is {line}, not edit {ended.id}")
    _, said = _sides(caller, request.prompt, revision - 1, revision)
    check_target(request.target_new, said)
    told = ended.outcome.generations[0].after if ended.outcome and ended.outcome.generations else ""
    require(bool(told) and (told.startswith(said) or said.startswith(told)), f"{told!r} was measured, {said!r} is said")


def _sides(caller: Caller, prompt: str, before: int, after: int) -> tuple[str, str]:
    """What two revisions say, as every answer checked."""
    asked = {"before": before, "after": after, "max_new_tokens": caller.plan.tokens, "min_revision": after}
    request = GenerateRequest.model_validate({"prompt": [prompt], **asked})
    answer = caller.client.generate(request)
    check_comparisons(caller, request, answer, after)
    return answer.results[0].before.text, answer.results[0].after.text
