"""Scores of edited facts before and after, by teacher forcing, in padded batches that hold both sides."""

from collections.abc import Sequence

from service.contracts.edits import Fact
from service.contracts.scores import (
    AnswerScore,
    FactScores,
    FactSide,
    Metrics,
    PromptScore,
    Side,
    Summaries,
    TargetScore,
)
from worker.editing.progress import Steps
from worker.evaluation.asking import AskedFact, AskedPrompt, AskedQuestion, ask_fact
from worker.evaluation.means import mean_of
from worker.evaluation.rows import Reads, SidesView, read_sides
from worker.evaluation.summary import each_of, summary_of
from worker.models.loaded import LoadedModel
from worker.models.positions import Row
from worker.models.reads import Read


def measure(loaded: LoadedModel, facts: Sequence[Fact], sides_view: SidesView) -> Steps[list[Metrics]]:
    """Score facts, in their order, on the base and on the edited weights."""
    rows: list[Row] = []
    asked = [ask_fact(loaded, rows, fact) for fact in facts]
    before, after = yield from read_sides(loaded, rows, sides_view)
    return [metrics_of(fact, before, after) for fact in asked]


def metrics_of(fact: AskedFact, before: Reads, after: Reads) -> Metrics:
    """One fact's scores, from what both sides say at its rows."""
    return Metrics(before=_side(fact, before, before), after=_side(fact, after, before))


def fact_scores(metrics: Metrics) -> FactScores:
    """One fact's scores without its prompts'."""
    before, after = (
        FactSide(
            target_new=side.rewrite.target_new,
            target_true=side.rewrite.target_true,
            summary=side.summary,
            each=each_of(side),
        )
        for side in (metrics.before, metrics.after)
    )
    return FactScores(before=before, after=after)


def summaries(scores: Sequence[FactScores]) -> Summaries:
    """Means over facts, with their intervals."""
    return Summaries(
        before=mean_of([score.before.summary for score in scores]),
        after=mean_of([score.after.summary for score in scores]),
    )


def answer_score(question: AskedQuestion, reads: Reads, base: Reads | None = None) -> AnswerScore:
    """One question's score; against the base, where its answer is not to change."""
    read = reads[question.row]
    same = None if base is None else _same(read, base[question.row])
    return AnswerScore(prompt=question.text, answer=_target_score(read), same=same)


def _side(fact: AskedFact, reads: Reads, base: Reads) -> Side:
    rewrite = _prompt_score(fact.rewrite, reads)
    paraphrases = tuple(_prompt_score(prompt, reads) for prompt in fact.paraphrases)
    neighborhood = tuple(_prompt_score(prompt, reads, base) for prompt in fact.neighborhood)
    locality = {name: tuple(answer_score(q, reads, base) for q in group) for name, group in fact.locality.items()}
    portability = {name: tuple(answer_score(q, reads) for q in group) for name, group in fact.portability.items()}
    return Side(
        rewrite=rewrite,
        paraphrases=paraphrases,
        neighborhood=neighborhood,
        locality=locality,
        portability=portability,
        summary=summary_of(rewrite, paraphrases, neighborhood, locality, portability),
    )


def _prompt_score(prompt: AskedPrompt, reads: Reads, base: Reads | None = None) -> PromptScore:
    new, true = _target_score(reads[prompt.new]), None if prompt.true is None else _target_score(reads[prompt.true])
    same = None if base is None else _same(reads[prompt.locality], base[prompt.locality])
    return PromptScore(prompt=prompt.text, target_new=new, target_true=true, same=same)


def _target_score(read: Read) -> TargetScore:
    return TargetScore(
        probability=float(read.logprobs.sum().exp()),
        nll=float(-read.logprobs.mean()),
        rank=int(read.ranks[0]),
        accuracy=float((read.ranks == 1).float().mean()),
    )


def _same(read: Read, base: Read) -> float:
    return float((read.argmax == base.argmax).float().mean())
