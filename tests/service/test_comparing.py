"""How rows become comparisons: nothing is lost or mixed up, whatever the numbers of prompts and alternatives."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.comparing import compare, label, parts_at
from service.contracts.generate import GenerateQuery
from service.contracts.lane import Decoded, Piece, Started
from tests.service.speech import continuation

ANY = settings(database=None, deadline=None, max_examples=60)


def decoded(prompts: int, alternatives: int, targets: int) -> Decoded:
    """Every row says its own number, and every target is as likely as its place tells."""
    rows = product(range(prompts), range(alternatives), (3, 7))
    return Decoded(
        started=Started(
            revisions=(3, 7),
            prompts=tuple(f"prompt {number}" for number in range(prompts)),
            prompt_tokens=(2,) * prompts,
        ),
        continuations=tuple(
            continuation(revision, f"{prompt}.{number}.{revision}") for prompt, number, revision in rows
        ),
        probabilities=tuple(float(place) for place in range(prompts * 2 * targets)),
        seconds=0.5,
    )


@given(
    prompts=st.integers(1, 5),
    alternatives=st.integers(1, 4),
    target_new=st.none() | st.just("Rome"),
    target_true=st.none() | st.just("Paris"),
)
@ANY
def test_every_row_finds_its_place(
    prompts: int, alternatives: int, target_new: str | None, target_true: str | None
) -> None:
    names = [name for name, text in (("target_new", target_new), ("target_true", target_true)) if text]
    wanted = GenerateQuery(prompt=("a",) * prompts, n=alternatives, target_new=target_new, target_true=target_true)
    answer = compare(decoded(prompts, alternatives, len(names)), wanted, seed=9, model="m")
    assert (answer.revision, answer.model, answer.seed, answer.seconds) == (7, "m", 9, 0.5)
    places = list(product(range(prompts), range(alternatives)))
    assert len(answer.results) == len(places)
    for (prompt, number), result in zip(places, answer.results, strict=True):
        assert (result.prompt, result.alternative) == (f"prompt {prompt}", number)
        assert (result.before.text, result.after.text) == (f"{prompt}.{number}.3", f"{prompt}.{number}.7")
        assert result.parts_at == 0
        for at, name in enumerate(("target_new", "target_true")):
            found = getattr(result, name)
            if name not in names:
                assert found is None
                continue
            place = names.index(name)
            assert found.before == prompt * 2 * len(names) + place, at
            assert found.after == found.before + len(names)


@given(prompts=st.integers(1, 5), alternatives=st.integers(1, 4))
@ANY
def test_a_pieces_label_is_the_place_of_its_row(prompts: int, alternatives: int) -> None:
    whole = decoded(prompts, alternatives, 0)
    for row, one in enumerate(whole.continuations):
        piece = Piece(row=row, text=one.text, tokens=one.tokens, token_ids=one.token_ids, logprobs=one.logprobs)
        found = label(piece, whole.started, alternatives)
        assert one.text == f"{found.prompt}.{found.alternative}.{found.revision}"
        assert found.side == {3: "before", 7: "after"}[found.revision]
        assert found.model_dump(include=set(Piece.model_fields)) == piece.model_dump(exclude={"row"})


TOKENS = st.lists(st.sampled_from("ab"), max_size=5)


@given(before=TOKENS, after=TOKENS)
@ANY
def test_continuations_part_where_no_longer_prefix_is_shared(before: list[str], after: list[str]) -> None:
    found = parts_at(continuation(0, *before), continuation(1, *after))
    if found is None:
        assert before == after
    else:
        assert before[:found] == after[:found]
        assert before[: found + 1] != after[: found + 1]


def test_tokens_part_that_look_the_same() -> None:
    """Two tokens may be written alike, such as the halves of a character."""
    before, after = (continuation(0, "\ufffd", token_ids=(token,)) for token in (5, 6))
    assert parts_at(before, after) == 0


def test_rows_that_are_missing_are_a_defect() -> None:
    short = decoded(2, 1, 0).model_copy(update={"continuations": decoded(1, 1, 0).continuations})
    with pytest.raises(ValueError, match="not enough values"):
        compare(short, GenerateQuery(prompt=("a", "a")), seed=0, model="m")
