"""The command that generates: what it asks for, and how it shows what comes."""

import json

import pytest

from service.contracts.generate import GenerateAnswer, GeneratedPiece, Priority
from service.contracts.lane import DecodeRequest, LaneAnswer
from service.errors import ProblemError
from tests.service.conftest import Run
from tests.service.stand_in import StandIn


def asked(worker: StandIn) -> DecodeRequest:
    """What the worker was asked last."""
    body = worker.asked[-1].body
    assert isinstance(body, DecodeRequest)
    return body


@pytest.mark.usefixtures("worker")
def test_both_sides_are_shown(ask: Run) -> None:
    code, output, _ = ask("generate", "The [bold] tower", "is", "--before", "r0", "--target-true", "Paris")
    assert code == 0
    for part in (
        "before: r0",
        "after: head (r0)",
        "The [bold] tower",
        "at head",
        "they part at token 1",
        "0.250 Paris",
    ):
        assert part in output


def test_every_option_reaches_the_worker(ask: Run, worker: StandIn) -> None:
    sampling = ("--temperature", "0.5", "--top-p", "0.9", "--top-k", "40", "--repetition-penalty", "1.25", "--n", "2")
    ends = ("--max-new-tokens", "3", "--stop", ".", "--stop", " the", "--seed", "7", "--top-logprobs", "4")
    more = ("--target-new", "Rome", "--target-true", "Paris", "--timeout", "1.5", "--min-revision", "r0")
    code, output, _ = ask("generate", "is", *sampling, *ends, *more, "--background", "--json")
    assert code == 0
    answer = GenerateAnswer.model_validate_json(output)
    assert (answer.seed, len(answer.results)) == (7, 2)
    body = asked(worker)
    assert body.sampling.model_dump() == {
        **{"temperature": 0.5, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.25, "n": 2},
        **{"max_new_tokens": 3, "stop": (".", " the"), "seed": 7, "top_logprobs": 4},
    }
    assert (body.targets, body.priority, body.stream) == (("Rome", "Paris"), Priority.BACKGROUND, False)


@pytest.mark.parametrize(
    ("options", "roles"), [(("--chat",), ["user"]), (("--system", "Be brief."), ["system", "user"])]
)
def test_a_chat_sends_messages(ask: Run, worker: StandIn, options: tuple[str, ...], roles: list[str]) -> None:
    worker.publish(chat=True)
    code, output, _ = ask("generate", "Where is it?", *options)
    assert code == 0
    assert "<user> Where is it?" in output
    body = asked(worker)
    assert ([turn.role for turn in body.messages], body.prompts) == (roles, ())
    assert body.messages[-1].content == "Where is it?"


@pytest.mark.usefixtures("worker")
def test_a_stream_is_told_in_lines_and_then_whole(ask: Run) -> None:
    code, output, _ = ask("generate", "is", "--stream")
    assert code == 0
    told, table = output.split("┏", 1)
    assert told.splitlines() == [
        '0.0 before r0 " at"',
        '0.0 after  r0 " at"',
        '0.0 before r0 " base" (length)',
        '0.0 after  r0 " head" (length)',
    ]
    assert "at base" in table
    assert "at head" in table


def test_a_stream_is_watched_on_a_terminal(ask: Run, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.publish(chat=True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    code, output, _ = ask("generate", "is", "--chat", "--stream")
    assert code == 0
    hide_cursor, erase_line = "\x1b[?25l", "\x1b[2K"
    assert hide_cursor in output
    last = output.rsplit(erase_line, 1)[1]
    assert "<user> is" in last
    assert "at head" in last


@pytest.mark.usefixtures("worker")
def test_a_stream_as_json_is_one_event_a_line(ask: Run) -> None:
    code, output, _ = ask("generate", "is", "--stream", "--json", "--seed", "7")
    assert code == 0
    *pieces, last = map(json.loads, output.splitlines())
    assert [(event.pop("event"), GeneratedPiece.model_validate(event).text) for event in pieces] == [
        *(("piece", " at"), ("piece", " at"), ("piece", " base"), ("piece", " head"))
    ]
    assert last.pop("event") == "done"
    assert GenerateAnswer.model_validate(last).seed == 7


def test_a_problem_in_the_middle_is_told(ask: Run, worker: StandIn) -> None:
    problem = ProblemError(504, "no-answer", "It took too long.").problem
    worker.answer = lambda request: [
        *worker.answers(request)[:-1],
        LaneAnswer(id=request.id, problem=problem),
    ]
    code, output, errors = ask("generate", "is", "--stream")
    assert code == 1
    assert output.startswith('0.0 before r0 " at"')
    assert errors == "It took too long.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("a", "b", "--chat"), 2, "give one prompt"),
        (("a", "--top-logprobs", "2"), 2, "are shown with --json only"),
        (("a", "--top-p", "0"), 2, "top_p: should be greater than 0"),
        (("a", "--stop", ""), 2, "stop[0]: must not be empty"),
        (("a", "--system", " "), 2, "messages[0].content: must contain more than white space"),
    ],
)
def test_what_cannot_be_asked_is_said(run: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    found, output, errors = run("generate", *arguments)
    assert (found, output) == (code, "")
    assert message in errors
