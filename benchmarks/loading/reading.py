"""What the readers of a load run ask: texts in every way that there is, and everything that can be looked at."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import httpx

from benchmarks.loading.caller import Caller
from benchmarks.loading.checks import require
from service.connection import raise_for_problem
from service.contracts.generate import Comparison, GenerateAnswer, GeneratedPiece, GenerateRequest, Side
from service.contracts.openai_answers import Completion, ServedModels
from service.events import parse_events
from service.failures import UnavailableError, problem_in, refusal
from service.middleware import REVISION

RECENT = 6
"""Revisions at the end of the ledger that are asked for more often than those before."""


def generate(caller: Caller) -> None:
    """POST /generate, whole: some prompts under two revisions."""
    request, least = _request(caller), caller.truth.head
    with caller.tally.timed("generate"):
        answer = caller.client.generate(request)
    check_comparisons(caller, request, answer, least)


def generate_stream(caller: Caller) -> None:
    """The same as a stream: what came in pieces is what stands in the last event."""
    request, least = _request(caller), caller.truth.head
    said: dict[tuple[int, Side], str] = defaultdict(str)
    with caller.tally.timed("generate_stream"):
        *pieces, answer = caller.client.stream(request)
    require(isinstance(answer, GenerateAnswer), "a stream's last event is not the answer")
    for piece in pieces:
        require(isinstance(piece, GeneratedPiece), "a stream goes on after its answer")
        if isinstance(piece, GeneratedPiece):
            said[piece.prompt, piece.side] += piece.text
    if isinstance(answer, GenerateAnswer):
        check_comparisons(caller, request, answer, least)
        whole = {
            (at, side): getattr(found, side.value).text for at, found in enumerate(answer.results) for side in Side
        }
        require({key: said[key] for key in whole} == whole == dict(said), f"{said} came in pieces, and {whole} whole")


def completion(caller: Caller) -> None:
    """POST /v1/completions, whole."""
    prompt, wanted, least, body = _completion(caller)
    with caller.tally.timed("completion"):
        answer = caller.http.post("/v1/completions", json=body)
    found = parsed(Completion, answer)
    revision = _speaker(answer, found)
    caller.truth.spoke(wanted, revision, least)
    caller.truth.said(prompt, revision, found.choices[0].text)
    require(found.usage is not None and found.usage.completion_tokens <= caller.plan.tokens, f"usage: {found.usage}")


def completion_stream(caller: Caller) -> None:
    """The same as a stream."""
    prompt, wanted, least, body = _completion(caller)
    with (
        caller.tally.timed("completion_stream"),
        caller.http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise_for_problem(answer)
        *events, last = (event.data for event in parse_events(answer.iter_text()))
    if (problem := problem_in(last, httpx.codes.GATEWAY_TIMEOUT)) is not None:
        raise refusal(problem)
    require(last == "[DONE]", f"a stream ends with {last[:200]}")
    chunks = [Completion.model_validate_json(event) for event in events]
    revisions = {_speaker(answer, chunk) for chunk in chunks}
    require(len(revisions) == 1, f"one stream speaks for {revisions}")
    caller.truth.spoke(wanted, revisions.copy().pop(), least)
    caller.truth.said(prompt, revisions.pop(), "".join(chunk.choices[0].text for chunk in chunks))


def check_comparisons(caller: Caller, request: GenerateRequest, answer: GenerateAnswer, least: int) -> None:
    """Every side of an answer: who speaks, what it says, and where the two part."""
    require(tuple(found.prompt for found in answer.results) == request.prompt, "other prompts are answered")
    for found in answer.results:
        for wanted, side in ((request.before, found.before), (request.after, found.after)):
            caller.truth.spoke(wanted, side.revision, least)
            caller.truth.said(found.prompt, side.revision, side.text)
        check_parting(found)
    require(answer.revision == answer.results[0].after.revision, f"an answer is told to be of r{answer.revision}")


def check_parting(found: Comparison) -> None:
    """`parts_at` is the first token where the sides differ."""
    before, after = found.before.token_ids, found.after.token_ids
    pairs = [left != right for left, right in zip(before, after, strict=False)]
    first = pairs.index(True) if any(pairs) else None if len(before) == len(after) else len(pairs)
    require(found.parts_at == first, f"{before} and {after} are told to part at {found.parts_at}")


def list_edits(caller: Caller) -> None:
    """GET /edits."""
    least, known = caller.truth.head, caller.truth.edits
    with caller.tally.timed("list_edits"):
        page = caller.client.edits.page(caller.draw.randint(1, 50))
    for edit in page.edits:
        caller.truth.seen(edit, known)
    caller.truth.saw(page.revision, least)


def get_edit(caller: Caller) -> None:
    """GET /edits/{id} of one that was applied, once there is one."""
    edits = caller.truth.edits
    if edits:
        edit_id = caller.draw.choice(sorted(edits))
        with caller.tally.timed("get_edit"):
            edit = caller.client.edits.get(edit_id)
        require(edit.id == edit_id and edit.outcome is not None, f"edit {edit_id} is told as {edit}")
        caller.truth.applied(edit)


def list_revisions(caller: Caller) -> None:
    """GET /revisions: from the head down, without a hole."""
    least = caller.truth.head
    with caller.tally.timed("list_revisions"):
        page = caller.client.revisions.page(caller.draw.randint(1, 50))
    head = page.revisions[0].revision
    caller.truth.saw(head, least)
    numbers = [line.revision for line in page.revisions]
    require(numbers == list(range(head, head - len(numbers), -1)), f"a page has the revisions {numbers}")
    for line in page.revisions:
        caller.truth.listed(line)


def get_revision(caller: Caller) -> None:
    """GET /revisions/{r} of any that is known."""
    number = caller.draw.randint(0, caller.truth.head)
    with caller.tally.timed("get_revision"):
        line = caller.client.revisions.get(number)
    require(line.revision == number, f"r{line.revision} is told where r{number} was asked for")
    caller.truth.listed(line)


def model(caller: Caller) -> None:
    """GET /model."""
    least = caller.truth.head
    with caller.tally.timed("model"):
        found = caller.client.model()
    caller.truth.saw(found.revision, least)
    require(found.card.name == caller.plan.model, f"the model is told to be {found.card.name}")


def ready(caller: Caller) -> None:
    """GET /ready; for the moment from a commit until the worker has told of it, nobody is at the head."""
    least = caller.truth.head
    try:
        with caller.tally.timed("ready"):
            found = caller.client.ready()
    except UnavailableError as error:
        require(re.search(r": it serves r\d+, and the head is r\d+\.", str(error)) is not None, f"not ready: {error}")
        caller.tally.refused("ready: no-worker")
    else:
        caller.truth.saw(found.revision, least)


def metrics(caller: Caller) -> None:
    """GET /metrics."""
    least = caller.truth.head
    with caller.tally.timed("metrics"):
        answer = caller.http.get("/metrics")
    found = re.search(r"^palimpsest_head_revision\{[^}]*\} (\S+)$", answer.text, re.MULTILINE)
    require(answer.status_code == httpx.codes.OK and found is not None, f"metrics are {answer.text[:200]}")
    caller.truth.saw(int(float(found[1])) if found else None, least)


def list_models(caller: Caller) -> None:
    """GET /v1/models: the head, the base, and the newest revisions."""
    least = caller.truth.head
    with caller.tally.timed("list_models"):
        answer = caller.http.get("/v1/models")
    names = [served.id for served in parsed(ServedModels, answer).data]
    name = caller.plan.model
    require(names[:2] == [name, f"{name}@base"], f"models are {names[:3]}")
    caller.truth.saw(int(names[2].removeprefix(f"{name}@r")) if names[2:] else 0, least)


GENERATIONS: Mapping[str, Callable[[Caller], None]] = MappingProxyType(
    {act.__name__: act for act in (generate, generate_stream, completion, completion_stream)}
)
READS: Mapping[str, Callable[[Caller], None]] = MappingProxyType(
    {
        act.__name__: act
        for act in (list_edits, get_edit, list_revisions, get_revision, model, ready, metrics, list_models)
    }
)


def parsed(kind: type[Any], answer: httpx.Response) -> Any:
    """What was answered, as a contract; the problem is raised if it is one."""
    raise_for_problem(answer)
    return kind.model_validate_json(answer.content)


def _request(caller: Caller) -> GenerateRequest:
    prompts = caller.draw.sample(caller.plan.prompts, caller.draw.randint(1, 2))
    sides = {"before": _revision(caller), "after": _revision(caller)}
    return GenerateRequest.model_validate({"prompt": prompts, "max_new_tokens": caller.plan.tokens, **sides})


def _completion(caller: Caller) -> tuple[str, str | int, int, dict[str, Any]]:
    """A prompt, the revision that is asked for, the newest that is known, and the body."""
    prompt, wanted, least = caller.draw.choice(caller.plan.prompts), _revision(caller), caller.truth.head
    suffix = {"head": "", "base": "@base"}.get(str(wanted), f"@r{wanted}")
    body = {"prompt": prompt, "model": caller.plan.model + suffix, "max_tokens": caller.plan.tokens, "temperature": 0}
    return prompt, wanted, least, body


def _revision(caller: Caller) -> str | int:
    """The head, the base, one of the last revisions, or any."""
    head = caller.truth.head
    near, any_ = caller.draw.randint(max(0, head - RECENT), head), caller.draw.randint(0, head)
    names: list[str | int] = ["head", "head", "base", near, near, any_]
    return caller.draw.choice(names)


def _speaker(answer: httpx.Response, found: Completion) -> int:
    told = answer.headers.get(REVISION)
    require(found.system_fingerprint == f"r{told}", f"{found.system_fingerprint} speaks, and the header says {told}")
    return int(told)
