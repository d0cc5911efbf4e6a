"""Many facts optimised together come to what each comes to alone, in whatever chunks memory allows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from service.contracts.edits import Fact
from tests.driving import context_of, finish, finish_noting
from tests.families import CONFIGS, LAYERS, tiny_model
from tests.worker.editing.kit import FACTS, Found
from worker.editing import batches
from worker.editing.batches import WORTH, Optimised, chunks, optimise_all
from worker.editing.hparams import ValueHparams
from worker.editing.progress import Step
from worker.editing.rows import FactRows, fact_rows
from worker.editing.values import CONVERGED, optimise
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.models.positions import Row, subject_row, target_row
from worker.models.suffix import SuffixPass

PREFIXES = ("", "The city. ", "Question: What sport, in Paris? ")
SEVERAL = (
    *FACTS,
    Fact(prompt="Lionel Messi plays", subject="Lionel Messi", target_new="basketball and more"),
    Fact(prompt="In the city of Paris, football is located", subject="Paris", target_new="in Japan"),
)
"""Of five lengths; one begins with its subject, so that its KL row is its first."""

TIGHT, LOOSE = 1e-9, 1e-5
IN_FLOAT64 = {"gpt2", "gpt_neox", "opt", "falcon", "falcon-alibi", "falcon-new", "stablelm", "stablelm-parallel"}
"""The families that compute in float64 throughout; the others' norms or attentions go through float32."""

HPARAMS = ValueHparams(
    layers=(1,),
    v_num_grad_steps=6,
    v_lr=0.5,
    v_loss_layer=LAYERS - 1,
    v_weight_decay=1e-3,
    clamp_norm_factor=4,
    kl_factor=0.0625,
)


def _noting(
    loaded: LoadedModel, facts: Sequence[Fact], hparams: ValueHparams = HPARAMS, *, at_mlp: bool = False
) -> tuple[list[Optimised], list[Step]]:
    return finish_noting(optimise_all(context_of(loaded), facts, PREFIXES, 1, hparams, at_mlp=at_mlp))


def _alone(loaded: LoadedModel, facts: Sequence[Fact], hparams: ValueHparams = HPARAMS, **how: Any) -> list[Optimised]:
    return [one for fact in facts for one in _noting(loaded, [fact], hparams, **how)[0]]


def _assert_alike(found: Sequence[Optimised], expected: Sequence[Optimised], tolerance: float) -> None:
    assert len(found) == len(expected)
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert float(other.delta.norm()) > 0, f"fact {index} did not move, so the comparison shows nothing"
        for name in ("initial", "delta", "target", "keys", "values"):
            first, second = getattr(one, name), getattr(other, name)
            assert first.shape == second.shape
            error = float((first - second).norm() / second.norm())
            assert error <= tolerance, f"{name} of fact {index}: {error}"


@pytest.mark.parametrize("at_mlp", [True, False])
@pytest.mark.parametrize("family", [name for name in CONFIGS if name != "gemma2"])  # gives NaN in float64
def test_together_as_alone(family: str, at_mlp: bool) -> None:
    loaded = tiny_model(family, torch.float64)
    found, _ = _noting(loaded, SEVERAL, at_mlp=at_mlp)
    _assert_alike(found, _alone(loaded, SEVERAL, at_mlp=at_mlp), TIGHT if family in IN_FLOAT64 else LOOSE)
    assert {one.delta.dtype for one in found} == {torch.float64}


@pytest.mark.parametrize("family", ["gpt2", "falcon", "llama", "gemma2"])
def test_together_as_alone_in_float32(family: str) -> None:
    loaded = tiny_model(family)
    found, _ = _noting(loaded, SEVERAL)
    _assert_alike(found, _alone(loaded, SEVERAL), 1e-3)
    assert {one.delta.dtype for one in found} == {torch.float32}


@pytest.mark.parametrize("at_mlp", [True, False])
def test_some_converge_and_leave(at_mlp: bool) -> None:
    """Each leaves at its own step, with the delta that it has then."""
    loaded = tiny_model("llama", torch.float64)
    loaded.model.lm_head.weight.data *= 8  # so that it can be sure of what it says
    changes = {"v_num_grad_steps": 40, "clamp_norm_factor": 50, "kl_factor": 1e-4, "v_weight_decay": 1e-6}
    hparams = HPARAMS.model_copy(update=changes)
    alone = [_noting(loaded, [fact], hparams, at_mlp=at_mlp) for fact in SEVERAL]
    lengths = [sum(step.phase == "value" for step in steps) for _, steps in alone]
    found, steps = _noting(loaded, SEVERAL, hparams, at_mlp=at_mlp)
    assert len(set(lengths)) >= 3, lengths
    assert min(lengths) < 20 < max(lengths) == sum(step.phase == "value" for step in steps)
    _assert_alike(found, [one for optimised, _ in alone for one in optimised], LOOSE)
    converged = [steps[-1].loss for _, steps in alone if steps[-1].step < 40]
    assert all(loss is not None and loss < CONVERGED for loss in converged)
    # What is told is the mean over the facts, of those that have left as they left.
    told = [steps[-1].loss for _, steps in alone if steps[-1].loss is not None]
    assert steps[-1].loss == pytest.approx(sum(told) / len(told), rel=1e-6)


@pytest.mark.parametrize("budget", [1, 60, 150])
def test_small_chunks_come_to_the_same(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("gpt2", torch.float64)
    expected, at_once = _noting(loaded, SEVERAL)
    monkeypatch.setattr(batches, "token_budget", lambda *_: budget)
    found, steps = _noting(loaded, SEVERAL)
    _assert_alike(found, expected, TIGHT)
    assert len(steps) > len(at_once)
    assert all(1 <= step.step <= step.steps for step in steps)
    values = [step.step for step in steps if step.phase == "value"]
    assert values == list(range(1, values[-1] + 1))
    assert {step.steps for step in steps if step.phase == "value"} == {values[-1]}


def _out_of_memory_beyond(rows: int, where: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """More rows than this do not fit: noted, and refused."""
    refused: list[int] = []
    original = getattr(SuffixPass, where)

    def refusing(self: SuffixPass, *args: Any, **kwargs: Any) -> Any:
        size = len(args[1]) if where == "__init__" else len(args[0])
        if size > rows:
            refused.append(size)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SuffixPass, where, refusing)
    return refused


@pytest.mark.parametrize("where", ["__init__", "hidden"])
def test_a_chunk_that_memory_does_not_suffice_for_is_halved(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("gpt2", torch.float64)
    before = Found.of(loaded)
    expected, _ = _noting(loaded, SEVERAL)
    refused = _out_of_memory_beyond(2 * len(PREFIXES) + 2, where, monkeypatch)
    found, steps = _noting(loaded, SEVERAL)
    _assert_alike(found, expected, TIGHT)
    assert len(refused) == 2
    assert all(1 <= step.step <= step.steps for step in steps)
    assert before.is_in(loaded)


def test_memory_that_runs_out_later_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the third step of the only chunk: both halves begin again, and nothing of the first attempt stays."""
    loaded = tiny_model("gpt2", torch.float64)
    expected, _ = _noting(loaded, SEVERAL)
    calls: list[int] = []
    original = SuffixPass.hidden

    def refusing(self: SuffixPass, delta: Tensor, *, at_mlp: bool) -> Tensor:
        calls.append(len(delta))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, delta, at_mlp=at_mlp)

    monkeypatch.setattr(SuffixPass, "hidden", refusing)
    found, _ = _noting(loaded, SEVERAL)
    _assert_alike(found, expected, TIGHT)
    assert max(calls[3:]) < calls[2]


@pytest.mark.parametrize(("facts", "field"), [(1, "prompt"), (3, r"facts\[\d\].prompt")])
def test_a_fact_that_is_too_much_alone_is_named(facts: int, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tiny_model("llama")
    before = Found.of(loaded)
    _out_of_memory_beyond(0, "hidden", monkeypatch)
    with pytest.raises(EditError, match=f"^{field}: .*GPU's memory") as error:
        _noting(loaded, SEVERAL[:facts])
    assert error.value.name == "out-of-memory"
    assert "context_template" in error.value.detail
    assert before.is_in(loaded)


def test_the_fact_that_is_too_much_is_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are done before it or would be after; the index is that of the request."""
    loaded = tiny_model("llama")
    long = SEVERAL[1].model_copy(update={"target_new": "football " * 8})
    facts = [SEVERAL[0], long, SEVERAL[2]]
    original = SuffixPass.__init__

    def refusing(self: SuffixPass, given: LoadedModel, rows: Sequence[Row], *rest: Any) -> None:
        if any(len(row.ids) - row.anchor > 8 for row in rows):
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(self, given, rows, *rest)

    monkeypatch.setattr(SuffixPass, "__init__", refusing)
    with pytest.raises(EditError) as error:
        _noting(loaded, facts)
    assert error.value.field == "facts[1].prompt"


def test_a_fact_beyond_the_context_is_named() -> None:
    long = SEVERAL[0].model_copy(update={"prompt": "city " * 150 + SEVERAL[0].prompt})
    for facts, field in (([long], "prompt"), ([SEVERAL[1], long], "facts[1].prompt")):
        with pytest.raises(EditError) as error:
            _noting(tiny_model("llama"), facts)
        assert (error.value.name, error.value.field) == ("too-long", field)


@pytest.mark.parametrize("family", ["gpt_neo", "gpt2"])
def test_long_before_and_long_after_the_subject(family: str) -> None:
    """Padded to one another, two facts that fit may need more than the context; gpt_neo's masks are no wider."""
    loaded = tiny_model(family, torch.float64)
    before = Fact(prompt="city of " * 14 + "Lionel Messi", subject="Lionel Messi", target_new="plays")
    after = Fact(prompt="Paris" + " is the city of" * 7, subject="Paris", target_new="football")
    both = [fact_rows(loaded, fact, PREFIXES) for fact in (before, after)]
    assert max(rows.column for rows in both) + max(rows.width for rows in both) > loaded.context_length
    found, _ = _noting(loaded, [before, after, SEVERAL[0]])
    _assert_alike(found, _alone(loaded, [before, after, SEVERAL[0]]), LOOSE)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text", "falcon-alibi"])
def test_a_shared_kl_row_is_as_good_as_its_own(family: str) -> None:
    """The bare prompt begins like "{subject} is a", so the KL is read in its row: what follows cannot matter there."""
    loaded = tiny_model(family, torch.float64)
    fact, tokenizer = SEVERAL[3], loaded.tokenizer
    shared = fact_rows(loaded, fact, PREFIXES)
    rows = [target_row(tokenizer, fact.prompt, fact.target_new, fact.subject, prefix) for prefix in PREFIXES]
    kl = subject_row(tokenizer, f"{fact.subject} is a", fact.subject)
    own = FactRows((*rows, kl), templates=len(PREFIXES), kl_row=len(PREFIXES))
    assert (len(shared.rows), shared.kl_row) == (len(PREFIXES), 0)
    hparams = HPARAMS.model_copy(update={"kl_factor": 2.0})
    results = []
    for given_rows in (shared, own):
        suffix = SuffixPass(loaded, given_rows.rows, 1)
        results.append(finish_noting(optimise(loaded, suffix, [given_rows], hparams, at_mlp=False)))
    ((_, first), one), ((_, second), other) = results
    assert float((first - second).norm() / second.norm()) <= LOOSE
    assert [step.loss for step in one] == pytest.approx([step.loss for step in other], rel=LOOSE)
    assert [s.target_probability for s in one] == pytest.approx([s.target_probability for s in other], rel=LOOSE)
    without = optimise(loaded, SuffixPass(loaded, own.rows, 1), [own], HPARAMS, at_mlp=False)
    assert not torch.allclose(finish(without)[1], second, rtol=1e-3), "the KL changed nothing"


def test_a_kl_row_of_its_own_where_no_template_begins_like_it() -> None:
    rows = fact_rows(tiny_model("llama"), SEVERAL[0], PREFIXES)
    assert (len(rows.rows), rows.templates, rows.kl_row) == (4, 3, 3)
    assert rows.rows[3].targets == ()


@pytest.mark.parametrize("pieces", [1, 7])
def test_logits_come_piece_by_piece(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few positions' logits are held at once, also where KL positions lie in several pieces."""
    loaded = tiny_model("gpt2", torch.float64)
    expected, _ = _noting(loaded, SEVERAL)
    monkeypatch.setattr("worker.models.memory.LOGITS_AT_ONCE", pieces * loaded.config.vocab_size)
    _assert_alike(_noting(loaded, SEVERAL)[0], expected, TIGHT)


@st.composite
def _fact_rows(draw: st.DrawFn) -> FactRows:
    sizes = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=5))
    rows = tuple(Row(ids=(5,) * (before + after), anchor=before) for before, after in sizes)
    return FactRows(rows, templates=len(rows), kl_row=0)


def _fits(batch: Sequence[FactRows], tokens: int, context: int) -> bool:
    width = max(fact.width for fact in batch)
    rows = sum(len(fact.rows) for fact in batch)
    return rows * width <= tokens and max(fact.column for fact in batch) + width <= context


@given(st.lists(_fact_rows(), max_size=20), st.integers(1, 600), st.integers(1, 45))
@settings(max_examples=200, deadline=None, database=None)
def test_chunks_hold_every_fact_once_and_respect_their_limits(batch: list[FactRows], tokens: int, context: int) -> None:
    found = chunks(batch, tokens, context)
    assert sorted(index for chunk in found for index in chunk) == list(range(len(batch)))
    given_rows = [[batch[index] for index in chunk] for chunk in found]
    assert all(len(chunk) == 1 or _fits(chunk, tokens, context) for chunk in given_rows)
    widths = [fact.width for chunk in given_rows for fact in chunk]
    assert widths == sorted(widths)
    for chunk, following in pairwise(given_rows):
        rows, width = sum(len(fact.rows) for fact in chunk), max(fact.width for fact in chunk)
        spared = following[0].width > width and rows * width >= WORTH * tokens
        assert spared or not _fits([*chunk, following[0]], tokens, context), "cut without need"
