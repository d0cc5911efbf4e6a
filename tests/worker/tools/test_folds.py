"""Every state of a ledger is folded again once, and is what a plain fold makes of its edits."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand
from tests.worker.tools.histories import STEPS, walked
from tests.worker.tools.kit import varied
from worker.editing.delta import WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.resident import digests
from worker.tools import folds
from worker.tools.folds import states


def _delta_of(stand: Stand, read: list[int]) -> Callable[[Any], WeightDelta]:
    store = BlobStore(stand.blobs_folder)

    def delta(entry: Any) -> WeightDelta:
        read.append(entry.revision)
        return store.get(str(entry.blob))

    return delta


def _checked(stand: Stand) -> list[int]:
    """Folds again everything that the ledger names; returns which deltas were read for that."""
    lines = stand.ledger.lines()
    read: list[int] = []
    seen: list[int] = []
    for state, revisions in states(stand.resident, lines, _delta_of(stand, read)):
        checksum = stand.resident.checksum(digests(state.weights))
        assert {lines.entries[revision].checksum for revision in revisions} == {checksum}
        assert len({tuple(e.revision for e in lines.active(revision)) for revision in revisions}) == 1
        seen += revisions
    assert sorted(seen) == list(range(len(lines.entries)))
    return read


@settings(max_examples=12, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, kept=st.integers(1, 4))
def test_any_history_is_folded_again(
    redis: Redis, keys: Keys, tmp_path_factory: pytest.TempPathFactory, steps: Any, kept: int
) -> None:
    client: Any = redis
    client.flushall()
    stand = Stand(redis, keys, tiny_model("llama"), tmp_path_factory.mktemp("history"))
    walked(stand, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "KEPT_STATES", kept)
        _checked(stand)


def test_each_delta_is_read_once_where_a_state_can_be_gone_on_from(stand: Stand) -> None:
    varied(stand)
    read = _checked(stand)
    assert sorted(read) == [1, 2, 3, 5, 5], "the fourth edit on the first, and then without it"


def test_what_needs_a_lost_blob_is_left_out(stand: Stand) -> None:
    varied(stand)
    lines = stand.ledger.lines()
    lost = [str(lines.entries[2].blob)]
    found = [revisions for _, revisions in states(stand.resident, lines, _delta_of(stand, []), lost)]
    assert sorted(revision for revisions in found for revision in revisions) == [0, 1, 4, 5, 6, 7]
