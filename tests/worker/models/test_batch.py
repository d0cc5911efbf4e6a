"""Padding is invisible: a row of an aligned batch gives the numbers that it gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.families import CONFIGS, tiny_model, tiny_tokenizer
from worker.models.batch import align, read_positions
from worker.models.positions import Row

VOCABULARY = len(tiny_tokenizer())


@st.composite
def rows(draw: st.DrawFn) -> Row:
    ids = draw(st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=12))
    places = st.integers(0, len(ids) - 1)
    return Row(tuple(ids), anchor=draw(places), reads=tuple(sorted(draw(st.sets(places, max_size=4)))))


@given(st.lists(rows(), min_size=1, max_size=6))
@settings(database=None, deadline=None, max_examples=50)
def test_anchors_meet_in_one_column(given_rows: list[Row]) -> None:
    batch = align(tiny_model("llama"), given_rows)
    for index, (row, start) in enumerate(zip(given_rows, batch.starts, strict=True)):
        assert start + row.anchor == batch.column
        span = slice(start, start + len(row.ids))
        assert batch.input_ids[index, span].tolist() == list(row.ids)
        assert batch.position_ids[index, span].tolist() == list(range(len(row.ids)))
        assert batch.attention_mask[index].sum() == batch.attention_mask[index, span].sum() == len(row.ids)
    assert batch.input_ids.shape[1] == max(s + len(r.ids) for r, s in zip(given_rows, batch.starts, strict=True))
    at_rows, columns = read_positions(given_rows, batch)
    wanted = [row.ids[at] for row in given_rows for at in row.reads]
    assert batch.input_ids[at_rows, columns].tolist() == wanted


@pytest.mark.parametrize("family", CONFIGS)
def test_a_padded_row_says_what_it_says_alone(family: str) -> None:
    loaded = tiny_model(family)
    generator = torch.Generator().manual_seed(0)
    given_rows = [
        Row(tuple(torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()), anchor=anchor, reads=reads)
        for length, anchor, reads in ((9, 4, (0, 8)), (3, 0, (1,)), (12, 11, (5, 11)), (1, 0, (0,)))
    ]
    batch = align(loaded, given_rows)
    with torch.no_grad():
        padded = loaded.model(**batch.inputs(), use_cache=False).logits[read_positions(given_rows, batch)]
        alone = [loaded.model(torch.tensor([row.ids])).logits[0, list(row.reads)] for row in given_rows]
    torch.testing.assert_close(padded, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_rows_that_read_nothing() -> None:
    given_rows = [Row((5, 6)), Row((7,))]
    at_rows, columns = read_positions(given_rows, align(tiny_model("gpt2"), given_rows))
    assert (at_rows.tolist(), columns.tolist()) == ([], [])
