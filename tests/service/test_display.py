"""What tables and progress bars say, as plain text."""

import io

import pytest
from rich.console import Console, RenderableType

from service import display
from service.contracts.edits import Edit, EditStatus, Progress
from service.contracts.generate import Comparison, Continuation, FinishReason
from service.contracts.problem import FieldError
from service.contracts.scores import PromptScore, TargetScore
from service.edits import utcnow
from service.errors import ProblemError
from tests.service.stand_in import EIFFEL, outcome


def text_of(shown: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def edit(**changes: object) -> Edit:
    request = {**EIFFEL, "target_true": "Paris"}
    known = {"id": "e", "status": EditStatus.RUNNING, "request": request, "fact_count": 1, "created_at": utcnow()}
    return Edit.model_validate({**known, **changes})


def comparison(before: tuple[str, ...], after: tuple[str, ...], parts_at: int | None) -> Comparison:
    sides = (
        Continuation(
            revision=number,
            text="".join(tokens),
            tokens=tokens,
            logprobs=(0.0,) * len(tokens),
            finish_reason=FinishReason.STOP,
        )
        for number, tokens in enumerate((before, after))
    )
    return Comparison(prompt="The [tower]", before=next(sides), after=next(sides), parts_at=parts_at)


@pytest.mark.parametrize(
    ("before", "after", "parts_at", "expected"),
    [
        ((" in", " Paris"), (" in", " Rome"), 1, ("in Paris", "in Rome")),
        ((" Paris",), (" Rome",), 0, ("Paris", "Rome")),
        ((" same",), (" same",), None, ("same", "same")),
        ((), (" Rome",), 0, ("(ends at once)", "Rome")),
    ],
)
def test_comparison(
    before: tuple[str, ...], after: tuple[str, ...], parts_at: int | None, expected: tuple[str, str]
) -> None:
    shown = text_of(display.comparison_table([comparison(before, after, parts_at)], "base", "head"))
    for part in ("The [tower]", "base", "head", *expected):
        assert part in shown


def test_fact_table_has_every_prompt_with_both_probabilities() -> None:
    metrics = outcome().metrics
    assert metrics is not None
    rare = TargetScore(probability=0.00002, nll=10, rank=9, accuracy=0)
    likely = TargetScore(probability=0.75, nll=0.3, rank=1, accuracy=1)
    neighbour = PromptScore(prompt="The Louvre is in", target_new=rare, target_true=likely)
    side = metrics.before.model_copy(update={"neighborhood": (neighbour,)})
    metrics = metrics.model_copy(update={"before": side, "after": side})
    texts = {"The Louvre is in": (" Paris.\n\nIt is", "")}
    shown = text_of(display.fact_table(edit().request.facts[0], metrics, texts, base="base", head="r1"))
    for part in ("The Louvre is in", "Paris. It is", "(ends at once)", "p=2e-05 Rome", "p=0.750 Paris"):
        assert part in shown
    assert shown.count("(ends at once)") == 1, "the edited prompt, of which no text is known, says none"


def test_scores_leave_out_what_was_not_asked() -> None:
    shown = text_of(display.score_lines(outcome()))
    assert "EA 1 → 1" in shown
    assert "value 1.0" in shown
    assert "NS" not in shown


def test_a_problem_names_a_field_once() -> None:
    error = ProblemError(422, "x", "hparams: is wrong", errors=[FieldError(field="hparams", detail="is wrong")])
    assert list(display.describe_problem(error.problem)) == ["hparams: is wrong"]
    error = ProblemError(422, "x", "Two are wrong.", errors=[FieldError(field="a", detail="is not b")])
    assert list(display.describe_problem(error.problem)) == ["Two are wrong.", "  a: is not b"]


def test_the_bar_shows_where_the_edit_is() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    progress = Progress(phase="value", step=3, steps=25, loss=1.25, target_probability=0.125)
    with display.EditProgressBar(console, "edit") as bar:
        bar.show(edit(status=EditStatus.QUEUED, position=2, notice="No worker is there."))
        bar.refresh()
        bar.show(edit(progress=progress))
        bar.refresh()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for part in ("queued (2 before it)", "No worker is there.", "edit: value", "3/25  loss 1.250  p 0.125"):
        assert part in shown
