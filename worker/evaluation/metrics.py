"""Scores of one edit before and after, by teacher forcing, in padded batches that hold both sides."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

import torch
from torch import Tensor

from service.contracts.edits import Fact
from service.contracts.scores import Metrics, PromptScore, Side, Summary, TargetScore
from worker.editing.progress import Step, Steps
from worker.models.batch import align, read_positions
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, next_token_row, target_row

ROWS = 16
"""Prompts with a target in one batch; each is run once a side."""


@dataclass(frozen=True)
class _Read:
    """What the model says at a row's reads: log-probability and rank of each target token, and the argmax tokens."""

    logprobs: Tensor
    ranks: Tensor
    argmax: Tensor


@dataclass(frozen=True)
class _Prompt:
    """Where a prompt's rows are: of target_new, of target_true, and of what locality compares."""

    text: str
    new: int
    true: int | None
    locality: int


def measure(
    loaded: LoadedModel, fact: Fact, sides_view: Callable[[int], AbstractContextManager[None]]
) -> Steps[Metrics]:
    """Score a fact on the base and on the edited weights.

    sides_view(n): a view under which rows 0..n-1 of a batch see the base and rows n..2n-1 the edited weights.
    """
    rows: list[Row] = []
    groups = [
        [_add_rows(loaded, rows, prompt, fact) for prompt in prompts]
        for prompts in ((fact.prompt,), fact.paraphrases, fact.neighborhood)
    ]
    before: list[_Read] = []
    after: list[_Read] = []
    for begin in range(0, len(rows), ROWS):
        chunk = rows[begin : begin + ROWS]
        with sides_view(len(chunk)):
            reads = _read(loaded, [*chunk, *chunk])
        before += reads[: len(chunk)]
        after += reads[len(chunk) :]
        yield Step("measure", min(begin + ROWS, len(rows)), len(rows))
    return Metrics(before=_side(groups, before, before), after=_side(groups, after, before))


def _add_rows(loaded: LoadedModel, rows: list[Row], prompt: str, fact: Fact) -> _Prompt:
    new = len(rows)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_new))
    if fact.target_true is None:
        rows.append(next_token_row(loaded.tokenizer, prompt))
        return _Prompt(prompt, new, None, new + 1)
    rows.append(target_row(loaded.tokenizer, prompt, fact.target_true))
    return _Prompt(prompt, new, new + 1, new + 1)


@torch.no_grad()
def _read(loaded: LoadedModel, rows: Sequence[Row]) -> list[_Read]:
    batch = align(loaded, rows)
    hidden = loaded.trunk(**batch.inputs(), use_cache=False).last_hidden_state
    logprobs = loaded.logits(hidden[read_positions(rows, batch)]).log_softmax(-1).cpu()
    reads, at = [], 0
    for row in rows:
        here = logprobs[at : at + len(row.reads)]
        targets = torch.tensor(row.targets, dtype=torch.long)[:, None]
        wanted = here[: len(row.targets)].gather(1, targets)
        ranks = (here[: len(row.targets)] > wanted).sum(-1) + 1
        reads.append(_Read(wanted[:, 0], ranks, here.argmax(-1)))
        at += len(row.reads)
    return reads


def _target_score(read: _Read) -> TargetScore:
    return TargetScore(
        probability=float(read.logprobs.sum().exp()),
        nll=float(-read.logprobs.mean()),
        rank=int(read.ranks[0]),
        accuracy=float((read.ranks == 1).float().mean()),
    )


def _prompt_score(prompt: _Prompt, reads: Sequence[_Read]) -> PromptScore:
    true = None if prompt.true is None else _target_score(reads[prompt.true])
    return PromptScore(prompt=prompt.text, target_new=_target_score(reads[prompt.new]), target_true=true)


def _side(groups: Sequence[Sequence[_Prompt]], reads: Sequence[_Read], base: Sequence[_Read]) -> Side:
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
    scores = [score for score in (es, ps, ns) if score is not None]
    return Summary(
        ES=es,
        PS=ps,
        NS=ns,
        S=harmonic_mean(scores) if len(scores) == 3 else None,  # noqa: PLR2004 - all three or none
        EA=float(rewrite.target_new.accuracy == 1),
        PA=_share(score.target_new.accuracy == 1 for score in paraphrases),
        NA=_share(None if score.target_true is None else score.target_true.accuracy == 1 for score in neighborhood),
        rewrite_acc=rewrite.target_new.accuracy,
        rephrase_acc=_share(score.target_new.accuracy for score in paraphrases),
        neighborhood_acc=_share(same),
    )


def _new_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll > score.target_new.nll


def _true_wins(score: PromptScore) -> bool | None:
    return None if score.target_true is None else score.target_true.nll < score.target_new.nll


def _share(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None
