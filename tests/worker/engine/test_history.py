"""The model in step with the ledger: commit is all or nothing, rollback and restart are bit-exact."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from service.contracts.edits import EditStatus
from service.contracts.revisions import RevisionKind
from service.errors import ProblemError
from service.ledger import EditEndedError
from tests.service.stand_in import outcome
from tests.worker.engine.kit import Boot, Stand, bits, dense_delta, live_checksum, random_delta, same_bits
from worker.engine.blobs import BlobStore
from worker.engine.state import State
from worker.errors import CorruptStateError


def test_the_first_boot_writes_the_base(boot: Boot) -> None:
    stand = boot()
    (base,) = stand.ledger.entries()
    assert (base.revision, base.parent, base.kind) == (0, None, RevisionKind.BASE)
    assert base.checksum == live_checksum(stand.loaded)
    assert boot().ledger.entries() == (base,)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_commit_moves_everything_at_once(boot: Boot, family: str, dtype: torch.dtype) -> None:
    stand = boot(family, dtype)
    edit_id = stand.running_edit()
    delta = random_delta(stand.loaded, 1, 2)
    revision = stand.commit(delta, edit_id)
    assert (revision.revision, revision.parent, revision.kind, revision.edit) == (1, 0, RevisionKind.EDIT, edit_id)
    assert revision.active == (edit_id,)
    assert set(revision.tensors) == {stand.resident.name_of(1), stand.resident.name_of(2)}
    assert revision.checksum == live_checksum(stand.loaded) != stand.resident.base_checksum
    assert stand.resident.revision == 1
    assert BlobStore(stand.blobs_folder).get(revision.blob or "").layers.keys() == delta.layers.keys()
    edit = stand.edits.get(edit_id)
    assert (edit.status, edit.revision, edit.outcome) == (EditStatus.APPLIED, 1, outcome())
    assert stand.edits.pending() == []


@pytest.mark.parametrize("how", ["cancel", "end", "never taken up"])
def test_an_edit_that_has_ended_is_not_committed(boot: Boot, how: str) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    before = stand.state()
    edit_id = stand.running_edit()
    match how:
        case "cancel":
            stand.edits.cancel(edit_id)
        case "end":
            stand.edits.end(edit_id, EditStatus.FAILED)
        case _:
            stand.edits.hand_back(edit_id)
    with pytest.raises(EditEndedError):
        stand.commit(random_delta(stand.loaded, seed=1), edit_id)
    assert stand.state() == before
    assert stand.edits.get(edit_id).revision is None
    named = {entry.blob for entry in stand.ledger.entries()} - {None}
    assert len(named) == 1
    assert len(list(stand.blobs_folder.glob("*.safetensors"))) == 2
    assert stand.commit(random_delta(stand.loaded, seed=2)).revision == 2


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["edit", "dense edit"]), st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)
        ),
        st.tuples(st.sampled_from(["rollback", "revert", "reapply"]), st.integers(0, 99)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=10,
)


def _held_is_refolded(stand: Stand) -> None:
    """The head as it is held, to be edited further, is to the last bit what the blobs make of the base."""
    blobs = BlobStore(stand.blobs_folder)
    entries = stand.ledger.active(stand.resident.revision)
    refolded = State.fold(stand.resident, [blobs.get(str(entry.blob)) for entry in entries])
    held = stand.history.state
    assert held.sums.keys() == refolded.sums.keys()
    assert all(torch.equal(total.total(), refolded.sums[layer].total()) for layer, total in held.sums.items())
    assert stand.resident.installed.keys() == held.weights.keys()
    assert all(torch.equal(stand.resident.installed[name], tensor) for name, tensor in held.weights.items())


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_is_a_plain_list_of_states(redis: Redis, boot: Boot, tmp_path: Path, steps: Any) -> None:
    """Against a plain model: for each revision the seeds of its active deltas; equal lists are equal weights."""
    client: Any = redis
    client.flushall()
    shutil.rmtree(tmp_path / "blobs", ignore_errors=True)
    stand = boot("gpt2", torch.bfloat16)
    active: list[tuple[int, ...]] = [()]
    ids: dict[int, str] = {}
    checksums: dict[tuple[int, ...], str] = {(): stand.resident.base_checksum}
    for seed, (kind, value) in enumerate(steps):
        if kind in ("edit", "dense edit"):
            draw = random_delta if kind == "edit" else dense_delta
            made = stand.commit(draw(stand.loaded, *value, seed=seed))
            ids[seed] = str(made.edit)
            active.append((*active[-1], seed))
        elif kind == "rollback":
            to = value % len(active)
            made = stand.history.rollback(to)
            assert made.to == to
            active.append(active[to])
        elif kind in ("revert", "reapply"):
            candidates = [s for s in ids if (s in active[-1]) is (kind == "revert")]
            if not candidates:
                continue
            chosen = candidates[value % len(candidates)]
            made = getattr(stand.history, kind)(ids[chosen])
            assert (made.kind, made.edit) == (RevisionKind(kind), ids[chosen])
            active.append(tuple(sorted({*active[-1]} ^ {chosen})))
        else:
            stand = boot("gpt2", torch.bfloat16)
            made = stand.ledger.revision(len(active) - 1)
        assert made.revision == stand.resident.revision == len(active) - 1
        assert len(made.active) == len(active[-1])
        assert live_checksum(stand.loaded) == made.checksum == checksums.setdefault(active[-1], made.checksum)
        _held_is_refolded(stand)
    assert len(set(checksums.values())) == len(checksums)
    assert [entry.revision for entry in stand.ledger.entries()] == list(range(len(active)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_edit_can_be_taken_out_and_put_back(boot: Boot, which: int, dtype: torch.dtype) -> None:
    stand = boot("gpt2", dtype)
    deltas = (random_delta(stand.loaded, 0, 1, rank=5), dense_delta(stand.loaded, 1, 3), random_delta(stand.loaded, 1))
    made = [stand.commit(delta) for delta in deltas]
    with_all = bits(stand.loaded)
    others = [delta for index, delta in enumerate(deltas) if index != which]
    out = stand.history.revert(str(made[which].edit))
    assert (out.revision, out.kind, out.active_count) == (4, RevisionKind.REVERT, 2)
    expected = State.fold(stand.resident, others).weights
    assert all(torch.equal(stand.resident.installed[name], tensor) for name, tensor in expected.items())
    assert out.checksum == live_checksum(stand.loaded) == live_checksum(boot("gpt2", dtype).loaded)
    with pytest.raises(ProblemError, match="not in force at r4"):
        stand.history.revert(str(made[which].edit))
    back = stand.history.reapply(str(made[which].edit))
    assert (back.revision, back.kind, back.checksum) == (5, RevisionKind.REAPPLY, made[-1].checksum)
    assert back.active == tuple(str(one.edit) for one in made)
    assert same_bits(bits(stand.loaded), with_all)
    with pytest.raises(ProblemError, match="in force at r5 already"):
        stand.history.reapply(str(made[which].edit))
    for one in made:
        stand.history.revert(str(one.edit))
    assert live_checksum(stand.loaded) == stand.resident.base_checksum


def test_an_edit_that_was_never_applied_cannot_be_put_back(boot: Boot) -> None:
    stand = boot()
    before = stand.state()
    with pytest.raises(ProblemError, match="was never applied") as raised:
        stand.history.reapply(stand.running_edit())
    assert raised.value.problem.status == 409
    assert stand.state() == before


def test_a_follower_goes_where_the_leader_goes(boot: Boot) -> None:
    """Edit by edit from what it holds, several at once, and back: always to the leader's checksum."""
    leader, follower = boot("gpt2"), boot("gpt2")
    for held in (False, True):
        made = [leader.commit(random_delta(leader.loaded, 1, seed=seed)) for seed in range(2)]
        follower.history.follow()
        assert live_checksum(follower.loaded) == made[-1].checksum == live_checksum(leader.loaded)
        if held:
            leader.history.revert(str(made[0].edit))
        else:
            _held_is_refolded(follower)
            leader.commit(dense_delta(leader.loaded, 1, 2))
        follower.history.follow()
        assert live_checksum(follower.loaded) == live_checksum(leader.loaded)
        assert follower.resident.revision == leader.resident.revision
        _held_is_refolded(follower)


def test_a_follower_that_meets_a_damaged_blob_stays_where_it_is(boot: Boot) -> None:
    leader, follower = boot(), boot()
    path = leader.blobs_folder / f"{leader.commit(random_delta(leader.loaded)).blob}.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptStateError):
        follower.history.follow()
    assert live_checksum(follower.loaded) == follower.resident.base_checksum
    path.write_bytes(content)
    follower.history.follow()
    assert live_checksum(follower.loaded) == live_checksum(leader.loaded)


@pytest.mark.parametrize("to", [0, 1, 2, 3])
def test_rollback_to_any_revision(boot: Boot, to: int) -> None:
    stand = boot("llama", torch.bfloat16)
    states = [bits(stand.loaded)]
    deltas = (random_delta(stand.loaded, 0, 1, 2, rank=5), dense_delta(stand.loaded, 2, 3), random_delta(stand.loaded))
    for delta in deltas:
        stand.commit(delta)
        states.append(bits(stand.loaded))
    made = stand.history.rollback(to)
    assert (made.revision, made.parent, made.kind, made.to) == (4, 3, RevisionKind.ROLLBACK, to)
    assert made.checksum == live_checksum(stand.loaded) == stand.ledger.revision(to).checksum
    assert made.active == stand.ledger.revision(to).active
    assert same_bits(bits(stand.loaded), states[to])


def test_rollback_to_a_revision_that_is_not_there(boot: Boot) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    before = stand.state()
    with pytest.raises(ProblemError, match=r"no revision r2\. Revisions r0 to r1 exist") as raised:
        stand.history.rollback(2)
    assert raised.value.problem.status == 404
    assert stand.state() == before


def test_old_states_are_rebuilt_where_they_are_not_at_hand(boot: Boot) -> None:
    stand = boot()
    expected = [stand.history.weights_at(0)]
    for seed in range(11):
        stand.commit(random_delta(stand.loaded, seed=seed))
        expected.append(stand.history.weights_at(seed + 1))
    for revision, weights in enumerate(expected):
        found = stand.history.weights_at(revision)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_candidate_changes_nothing(boot: Boot) -> None:
    stand = boot("gpt2")
    stand.commit(random_delta(stand.loaded))
    before = stand.state()
    weights = stand.history.state.plus(random_delta(stand.loaded, 2, seed=5)).weights
    assert set(weights) == {stand.resident.name_of(1), stand.resident.name_of(2)}
    assert stand.state() == before
