"""What tables and progress bars say, as plain text."""

import io

from rich.console import Console, RenderableType

from service.commands import display
from service.contracts.edits import Edit, EditStatus, Fact
from service.contracts.jobs import Progress
from service.contracts.model import ModelStatus
from service.contracts.problem import FieldError
from service.contracts.scores import PromptScore, Summaries, Summary, TargetScore
from service.errors import ProblemError
from service.jobs import utcnow
from tests.service.stand_in import EIFFEL, batch_json, evaluation_result, fact_scores, model_card, outcome


def text_of(shown: RenderableType, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def edit(**changes: object) -> Edit:
    request = {**EIFFEL, "target_true": "Paris"}
    known = {"id": "e", "status": EditStatus.RUNNING, "request": request, "fact_count": 1, "created_at": utcnow()}
    return Edit.model_validate({**known, **changes})


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


def test_a_batch_shows_its_means_and_its_worst_facts() -> None:
    facts = [Fact(prompt=f"[{number}] Rome is", subject="Rome", target_new=f"City {number}") for number in range(9)]
    scores = [fact_scores(0.1 * (number + 1), EA=float(number > 2)) for number in range(9)]
    old = TargetScore(probability=0.0625, nll=1, rank=2, accuracy=0)
    scores[0] = scores[0].model_copy(update={"after": scores[0].after.model_copy(update={"target_true": old})})
    summary = Summary(ES=0.875, EA=0.75, PA=0.5, rewrite_acc=0.9)
    means = Summaries(before=summary.model_copy(update={"ES": None, "EA": 0.0}), after=summary)
    found = outcome(9).model_copy(update={"facts": tuple(scores), "summary": means})
    shown = text_of(display.batch_view(facts, found))
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for row in (
        "means over 9 facts",
        "ES – 0.875",  # noqa: RUF001 - an en dash stands for "no value"
        "EA 0.000 0.750",
        "PA 0.500 0.500",
        "6 of 9 rewrites took: the whole target is the likeliest answer",
        "[0] Rome is City 0 0.100 0.100 0.062",
        "[4] Rome is City 4 0.500 0.500",
        "seconds value 1.0",
    ):
        assert row in rows
    assert not any(row.startswith(("NS", "[5]")) for row in rows)


def test_an_evaluation_names_its_revision() -> None:
    facts = [Fact(prompt=f"[{number}] Rome is", subject="Rome", target_new=f"City {number}") for number in range(2)]
    shown = text_of(display.evaluation_view(evaluation_result([(fact, None) for fact in facts], revision=7)))
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for row in (
        "means over 2 facts",
        "score base r7",
        "2 of 2 facts hold at r7: the whole target is the likeliest answer",
        "prompt target p base p r7 p of the old target",
        "[1] Rome is City 1 0.500 0.500",
        "seconds measure 1.0",
    ):
        assert row in rows


def test_the_status_tells_the_size_of_a_batch() -> None:
    batch = edit(request=batch_json(3), fact_count=1000)
    status = ModelStatus(card=model_card(), revision=0, checksum="c0", edited_tensors=(), edited_layers=(), worker=None)
    shown = text_of(display.status_view(status, [], [batch, edit()]))
    assert f"0. {EIFFEL['prompt']} and 999 more" in shown
    assert shown.count("more") == 1


def test_a_problem_names_a_field_once() -> None:
    error = ProblemError(422, "x", "hparams: is wrong", errors=[FieldError(field="hparams", detail="is wrong")])
    assert list(display.describe_problem(error.problem)) == ["hparams: is wrong"]
    error = ProblemError(422, "x", "Two are wrong.", errors=[FieldError(field="a", detail="is not b")])
    assert list(display.describe_problem(error.problem)) == ["Two are wrong.", "  a: is not b"]


def test_the_bar_shows_where_the_edit_is() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    progress = Progress(phase="value", step=3, steps=25, loss=1.25, target_probability=0.125)
    with display.JobProgressBar(console, "edit") as bar:
        bar.show(edit(status=EditStatus.QUEUED, position=2, notice="No worker is there."))
        bar.refresh()
        bar.show(edit(progress=progress))
        bar.refresh()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for part in ("queued (2 before it)", "No worker is there.", "edit: value", "3/25  loss 1.250  p 0.125"):
        assert part in shown
