"""Whatever joins and leaves, each row keeps its own keys and values, at the end of its columns."""

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worker.models.padded_cache import PaddedCache

LAYERS, GROUPS, SIZE = 2, 2, 3
CPU = torch.device("cpu")


@dataclass
class Known:
    """A row's keys, [GROUPS, length, SIZE]; its values are their negatives, and layers differ by 100."""

    keys: Tensor

    def extended(self, new: Tensor) -> "Known":
        return Known(torch.cat([self.keys, new], dim=1))


def _write(cache: PaddedCache, keys: Tensor) -> None:
    """What a forward pass does."""
    for layer in range(LAYERS):
        cache.cache.update(keys + 100 * layer, -keys - 100 * layer, layer)


def _made(lengths: list[int], seed: int) -> tuple[PaddedCache, list[Known]]:
    """Rows of these lengths, with noise where they are padded."""
    width = max(lengths)
    keys = torch.rand(len(lengths), GROUPS, width, SIZE, generator=torch.Generator().manual_seed(seed))
    starts = [width - length for length in lengths]
    cache = PaddedCache(starts)
    _write(cache, keys)
    return cache, [Known(keys[row, :, start:]) for row, start in enumerate(starts)]


def _check(cache: PaddedCache, rows: list[Known]) -> None:
    lengths = [row.keys.shape[1] for row in rows]
    assert cache.width == max(lengths), "no column is kept that no row needs"
    assert cache.starts == [cache.width - length for length in lengths]
    assert cache.mask(1, CPU).sum(1).tolist() == [length + 1 for length in lengths]
    assert cache.positions(1, CPU)[:, 0].tolist() == lengths
    for layer, part in enumerate(cache.cache.layers):
        for row, known in enumerate(rows):
            found = part.keys[row, :, cache.starts[row] :]
            assert torch.equal(found, known.keys + 100 * layer)
            assert torch.equal(part.values[row, :, cache.starts[row] :], -found)


LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), LENGTHS),
        st.tuples(st.just("step"), st.none()),
        st.tuples(st.just("keep"), st.lists(st.integers(0, 20), min_size=1, max_size=5)),
    ),
    max_size=8,
)


@given(lengths=LENGTHS, actions=ACTIONS)
def test_rows_keep_what_is_theirs(lengths: list[int], actions: list[tuple[str, list[int]]]) -> None:
    cache, rows = _made(lengths, 0)
    _check(cache, rows)
    for number, (action, numbers) in enumerate(actions, 1):
        if action == "join":
            others, more = _made(numbers, number)
            cache.join(others)
            rows = [*rows, *more]
        elif action == "step":
            new = torch.rand(len(rows), GROUPS, 1, SIZE, generator=torch.Generator().manual_seed(number))
            _write(cache, new)
            rows = [row.extended(new[at]) for at, row in enumerate(rows)]
        else:
            kept = [at % len(rows) for at in numbers]
            cache.keep(kept)
            rows = [rows[at] for at in kept]
        _check(cache, rows)


def test_padding_is_blanked_and_nothing_else() -> None:
    cache, rows = _made([1, 3, 2], 0)
    for layer in cache.cache.layers:
        layer.keys[0, :, 0] = float("nan")
    cache.blank_padding()
    _check(cache, rows)
    for layer in cache.cache.layers:
        assert (layer.keys[0, :, :2] == 0).all()
        assert (layer.values[2, :, :1] == 0).all()


def test_an_empty_row_keeps_the_others_columns() -> None:
    cache, rows = _made([5, 2], 0)
    cache.keep([1])
    _check(cache, rows[1:])
    assert cache.nbytes == LAYERS * 2 * GROUPS * 2 * SIZE * 4
