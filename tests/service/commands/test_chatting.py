"""The command that talks with both sides: through a pipe, on a terminal, and when something goes wrong."""

import io
import json
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from service.contracts.lane import DecodeRequest, LaneAnswer, LaneRequest
from service.errors import ProblemError
from service.settings import Settings
from tests.service.asking import SECONDS, wait_until
from tests.service.conftest import MODEL, Run, serve
from tests.service.stand_in import StandIn

Said = list[tuple[str, str]]


@pytest.fixture
def talk(ask: Run, worker: StandIn, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs a chat with what comes through a pipe."""
    worker.publish(chat=True)

    def run(lines: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return ask("chat", *options)

    return run


def heard(worker: StandIn) -> dict[str, list[Said]]:
    """What each revision was asked, turn after turn."""
    found: dict[str, list[Said]] = {}
    for request in worker.asked:
        assert isinstance(request.body, DecodeRequest)
        (revision,) = request.body.revisions
        found.setdefault(str(revision), []).append([(turn.role, turn.content) for turn in request.body.messages])
    return found


def test_each_side_hears_the_same_and_remembers_its_own(talk: Run, worker: StandIn) -> None:
    code, output, _ = talk("Where?\n\n  And when? \n", "--system", "Be brief.")
    assert code == 0
    assert output.splitlines() == [
        "you         Where?",
        "before r0   at base",
        "after  r0   at head",
        "you         And when?",
        "before r0   at base",
        "after  r0   at head",
    ]
    system, where, when = ("system", "Be brief."), ("user", "Where?"), ("user", "And when?")
    assert heard(worker) == {
        side: [[system, where], [system, where, ("assistant", f" at {side}"), when]] for side in ("base", "head")
    }


def test_commands_choose_revisions_forget_and_end(talk: Run, worker: StandIn) -> None:
    code, output, errors = talk("one\n/at r0\ntwo\n/at head base\n/reset\nthree\n/quit\nfour\n")
    assert code == 0
    assert output.splitlines()[3:6] == ["you         two", "before r0   at base", "after  r0   at 0"]
    assert output.splitlines()[6:] == ["you         three", "before r0   at head", "after  r0   at base"]
    assert errors.splitlines() == [
        "before: base, after: r0",
        "before: head, after: base",
        "what was said is forgotten",
    ]
    assert heard(worker)["0"] == [[("user", "one"), ("assistant", " at head"), ("user", "two")]]
    assert heard(worker)["head"][-1] == [("user", "three")]


@pytest.mark.usefixtures("worker")
def test_every_piece_is_a_line_of_json(talk: Run) -> None:
    code, output, errors = talk("Where?\n", "--json")
    events = [json.loads(line) for line in output.splitlines()]
    answers = events[-2:]
    assert (code, errors) == (0, "")
    assert [(answer["event"], answer["side"], answer["text"]) for answer in answers] == [
        ("answer", "before", " at base"),
        ("answer", "after", " at head"),
    ]
    assert {answer["finish_reason"] for answer in answers} == {"length"}
    for side, text in (("before", " at base"), ("after", " at head")):
        assert "".join(e["text"] for e in events if (e["event"], e["side"]) == ("piece", side)) == text


@pytest.mark.parametrize(
    ("lines", "options", "code", "words"),
    [
        ("/fly\n", (), 2, "/fly is no command here: /at r3 lets r3 answer"),
        ("/at\n", (), 2, "/at is no command here"),
        ("/at r9\n", (), 4, "There is no revision r9"),
        ("/at newest\n", (), 2, "newest must be base, head, or a revision such as r3"),
        ("x\n", ("--after", "r9"), 4, "There is no revision r9"),
        ("x\n", ("--temperature", "99"), 2, "temperature: should be less than or equal to 10"),
    ],
)
def test_what_cannot_be_done_ends_a_pipe(
    talk: Run, lines: str, options: tuple[str, ...], code: int, words: str
) -> None:
    ended, _, errors = talk(lines, *options)
    assert ended == code
    assert words in errors


def test_a_model_without_a_chat_template_is_told_at_once(talk: Run, worker: StandIn) -> None:
    worker.publish(chat=False)
    assert talk("x\n") == (2, "", "test-model has no chat template; ask it with: palimpsest generate PROMPT\n")


class Terminal:
    """A chat in a process of its own, on a terminal."""

    def __init__(self, server: str) -> None:
        environ = {"PALIMPSEST_SERVER": server, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        pid, self._end = pty.fork()
        if not pid:  # pragma: no cover - another program
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as on a terminal, whoever runs the tests
            os.execve(sys.executable, [sys.executable, "-m", "service.cli", "chat"], {**os.environ, **environ})  # noqa: S606
        self._pid = pid
        self.shown, self._at = "", 0

    def until(self, words: str) -> None:
        """Read until this was shown, after what was read before."""
        limit = time.monotonic() + SECONDS
        while (found := self.shown.find(words, self._at)) < 0:
            assert time.monotonic() < limit, self.shown
            if select.select([self._end], [], [], 0.1)[0]:
                self.shown += os.read(self._end, 65536).decode(errors="replace")
        self._at = found + len(words)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        limit = time.monotonic() + SECONDS
        while not (found := os.waitpid(self._pid, os.WNOHANG))[0]:
            assert time.monotonic() < limit, self.shown
            time.sleep(0.05)
        self._pid = 0
        return os.waitstatus_to_exitcode(found[1])

    def close(self) -> None:
        """Leave nothing running."""
        os.close(self._end)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


@pytest.fixture
def patient_url(valkey_url: str) -> Iterator[str]:
    """URL of an API that waits for a worker longer than a key takes to be pressed."""
    yield from serve(Settings(model=MODEL, port=0, redis_url=valkey_url, generate_timeout=SECONDS))


def test_a_terminal_shows_both_sides_and_outlives_errors(worker: StandIn, patient_url: str) -> None:
    worker.publish(chat=True)
    with closing(Terminal(patient_url)) as terminal:
        terminal.until("you> ")
        terminal.type("Whree\b\b\bere?\n")
        terminal.until("after: head (r0)")
        terminal.until("you> ")
        assert "at base" in terminal.shown
        assert heard(worker)["base"] == [[("user", "Where?")]]
        terminal.type("/at r9\n")
        terminal.until("There is no revision r9")
        worker.answer = refuse
        terminal.until("you> ")
        terminal.type("Again?\n")
        terminal.until("It took too long.")
        worker.answer = lambda request: worker.answers(request)[:2]
        terminal.until("you> ")
        terminal.type("Stop?\n")
        wait_until(lambda: len(worker.asked) >= 6)
        terminal.until(" at")
        terminal.type("\x03")
        terminal.until("this turn is forgotten")
        worker.answer = worker.answers
        terminal.until("you> ")
        terminal.type("Last?\n")
        terminal.until("after: head (r0)")
        terminal.until("you> ")
        assert heard(worker)["base"][-1] == [("user", "Where?"), ("assistant", " at base"), ("user", "Last?")]
        terminal.type("\x04")
        assert terminal.ended() == 0


def refuse(request: LaneRequest) -> Iterator[LaneAnswer]:
    yield LaneAnswer(id=request.id, problem=ProblemError(504, "no-answer", "It took too long.").problem)
