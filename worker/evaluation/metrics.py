"""Scores of edited facts before and after, by teacher forcing, in padded batches that hold both sides."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

from service.contracts.edits import Fact
from service.contracts.scores import FactScores, FactSide, Metrics, PromptScore, Side, Summaries, Summary, TargetScore
from worker.editing.progress import Step, Steps
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.positions import Row, next_token_row, target_row
from worker.models.reads import Read, read_rows


@dataclass(frozen=True)
class _Prompt:
    """Where a prompt's rows are: of target_new, of target_true, and of what locality compares."""

    text: str
    new: int
    true: int | None
    locality: int


Groups = Sequence[Sequence[_Prompt]]
"""One fact's prompts: the rewrite alone, the paraphrases, the neighbourhood."""


def measure(
    loaded: LoadedModel, facts: Sequence[Fact], sides_view: Callable[[int], AbstractContextManager[None]]
) -> Steps[list[Metrics]]:
    """Score facts, in their order, on the base and on the edited weights.

    sides_view(n): a view under which rows 0..n-1 of a batch see the base and rows n..2n-1 the edited weights.
    """
    rows: list[Row] = []
    groups = [_groups(loaded, rows, fact) for fact in facts]
    before: dict[int, Read] = {}
    after: dict[int, Read] = {}
    for chunk in _chunks(loaded, _merged(rows)):
        run = [merged.row for merged in chunk]
        with sides_view(len(run)):
            reads = read_rows(loaded, [*run, *run])
        for side, found in ((before, reads[: len(run)]), (after, reads[len(run) :])):
            side |= {index: part for merged, read in zip(chunk, found, strict=True) for index, part in merged.of(read)}
        yield Step("measure", len(before), len(rows))
    return [Metrics(before=_side(fact, before, before), after=_side(fact, after, before)) for fact in groups]


def fact_scores(metrics: Metrics) -> FactScores:
    """One fact's scores without its prompts'."""
    before, after = (
        FactSide(target_new=side.rewrite.target_new, target_true=side.rewrite.target_true, summary=side.summary)
        for side in (metrics.before, metrics.after)
    )
    return FactScores(before=before, after=after)


def summaries(scores: Sequence[FactScores]) -> Summaries:
    """Means over facts."""
    return Summaries(
        before=_mean([score.before.summary for score in scores]), after=_mean([score.after.summary for score in scores])
    )


def _mean(found: Sequence[Summary]) -> Summary:
    means = {name: _share(getattr(summary, name) for summary in found) for name in Summary.model_fields}
    means["S"] = _harmonic(means["ES"], means["PS"], means["NS"])
    return Summary.model_validate(means)


def _groups(loaded: LoadedModel, rows: list[Row], fact: Fact) -> Groups:
    asked = ((fact.prompt,), fact.paraphrases, fact.neighborhood)
    return [[_add_rows(loaded, rows, prompt, fact) for prompt in prompts] for prompts in asked]


def _add_rows(loaded: LoadedModel, rows: list[Row], prompt: str, fact: Fact) -> _Prompt:
    new = len(rows)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_new))
    if fact.target_true is None:
        rows.append(next_token_row(loaded.tokenizer, prompt))
        return _Prompt(prompt, new, None, new + 1)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_true))
    return _Prompt(prompt, new, new + 1, new + 1)


@dataclass(frozen=True)
class _Merged:
    """Rows with the same tokens, run as one; `members` are their indices and how much each reads."""

    row: Row
    members: tuple[tuple[int, int], ...]

    def of(self, read: Read) -> Iterator[tuple[int, Read]]:
        """What each member reads."""
        at = 0
        for index, reads in self.members:
            span = slice(at, at + reads)
            yield index, Read(read.logprobs[span], read.ranks[span], read.argmax[span])
            at += reads


def _merged(rows: Sequence[Row]) -> list[_Merged]:
    """Targets of one token leave a prompt's rows alike, so most prompts run once instead of twice; shortest first."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        alike.setdefault(row.ids, []).append(index)
    found = []
    for ids, members in sorted(alike.items(), key=lambda item: len(item[0])):
        reads = tuple(at for index in members for at in rows[index].reads)
        # Where there is no target to look up, any token serves.
        targets = tuple(token for index in members for token in (rows[index].targets or (0,)))
        found.append(_Merged(Row(ids, 0, reads, targets), tuple((index, len(rows[index].reads)) for index in members)))
    return found


def _chunks(loaded: LoadedModel, rows: Sequence[_Merged]) -> Iterator[list[_Merged]]:
    """As many rows as are worth one step, each to be run once a side."""
    most = MOST_TOKENS.get(loaded.device.type, MOST_TOKENS["cpu"])
    chunk: list[_Merged] = []
    for merged in rows:
        if chunk and 2 * (len(chunk) + 1) * len(merged.row.ids) > most:
            yield chunk
            chunk = []
        chunk.append(merged)
    yield chunk


def _target_score(read: Read) -> TargetScore:
    return TargetScore(
        probability=float(read.logprobs.sum().exp()),
        nll=float(-read.logprobs.mean()),
        rank=int(read.ranks[0]),
        accuracy=float((read.ranks == 1).float().mean()),
    )


def _prompt_score(prompt: _Prompt, reads: Mapping[int, Read]) -> PromptScore:
    true = None if prompt.true is None else _target_score(reads[prompt.true])
    return PromptScore(prompt=prompt.text, target_new=_target_score(reads[prompt.new]), target_true=true)


def _side(groups: Groups, reads: Mapping[int, Read], base: Mapping[int, Read]) -> Side:
    (rewrite,), paraphrases, neighborhood = ([_prompt_score(p, reads) for p in group] for group in groups)
    same = [(reads[p.locality].argmax == base[p.locality].argmax).float().mean().item() for p in groups[2]]
    return Side(
        rewrite=rewrite,
        paraphrases=tuple(paraphrases),
        neighborhood=tuple(neighborhood),
        summary=_summary(rewrite, paraphrases, neighborhood, same),
    )


def _summary(
    rewrite: PromptScore, paraphrases: Sequence[PromptScore], neighborhood: Sequence[PromptScore], same: Sequence[float]
) -> Summary:
    es, ps = _share(map(_new_wins, [rewrite])), _share(map(_new_wins, paraphrases))
    ns = _share(map(_true_wins, neighborhood))
    return Summary(
        ES=es,
        PS=ps,
        NS=ns,
        S=_harmonic(es, ps, ns),
        EA=float(rewrite.target_new.accuracy == 1),
        PA=_share(score.target_new.accuracy == 1 for score in paraphrases),
        NA=_share(None if score.target_true is None else score.target_true.accuracy == 1 for score in neighborhood),
        rewrite_acc=rewrite.target_new.accuracy,
        rephrase_acc=_share(score.target_new.accuracy for score in paraphrases),
        neighborhood_acc=_share(same),
    )


def _harmonic(es: float | None, ps: float | None, ns: float | None) -> float | None:
    """S, where there are all three."""
    return None if es is None or ps is None or ns is None else harmonic_mean([es, ps, ns])


def _new_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll > score.target_new.nll


def _true_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll < score.target_new.nll


def _share(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None
