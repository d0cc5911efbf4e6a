"""An adapter of a revision: gathered on the model's thread, computed beside it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from functools import partial
from threading import Event

from torch import Tensor

from service.contracts.exports import Exported, Fidelity, LayerFidelity
from service.errors import ProblemError
from worker.editing.delta import Change
from worker.engine.folder import Folder
from worker.engine.history import History
from worker.export.factors import Factors, TooDenseError, factors_of
from worker.export.peft_files import adapter_files
from worker.export.sink import in_background
from worker.export.work import Work, done, put
from worker.models.loaded import LoadedModel

DELTAS_AT_ONCE = 16
"""Read from the storage, at most, in one step."""

BaseAndServed = tuple[Tensor, Tensor]
"""Weights of one layer, [h, d] float32, on the CPU."""


def adapter(history: History, folder: Folder, name: str, revision: int, most: int) -> Work[Exported]:
    """Both files of an adapter whose rank is at most `most`, as the object `name`.

    Raises a problem where there is no change, or none that such an adapter can be.
    """
    changes: dict[int, list[Change]] = {}
    for number, delta in enumerate(history.deltas_at(revision), 1):
        for layer, change in delta.layers.items():
            changes.setdefault(layer, []).append(change)
        if number % DELTAS_AT_ONCE == 0:
            yield None
    resident, weights = history.resident, history.weights_at(revision)
    sides: dict[int, BaseAndServed] = {}
    for layer in sorted(changes):
        yield None
        sides[layer] = resident.base_of_layer(layer), resident.layer_in(weights, layer)
    gone = Event()
    compute = partial(_compute, resident.loaded, changes, sides, revision, most, gone)
    try:
        files, fidelity = yield from done(in_background(compute))
    finally:  # closed by whoever drives it, too
        gone.set()
    written = yield from put(folder, name, ((file, (content,)) for file, content in files.items()))
    return Exported(files=written, fidelity=fidelity)


def _compute(
    loaded: LoadedModel,
    changes: Mapping[int, Sequence[Change]],
    sides: Mapping[int, BaseAndServed],
    revision: int,
    most: int,
    gone: Event,
) -> tuple[dict[str, bytes], Fidelity]:
    factors: dict[int, Factors] = {}
    for layer in sorted(changes):
        _require_wanted(gone)
        try:
            factors[layer] = factors_of(changes[layer], most)
        except TooDenseError as error:
            raise _too_dense(revision, layer, error.rank, most) from error
    factors = {layer: found for layer, found in factors.items() if found.rank}
    if not factors:
        raise ProblemError(
            409,
            "no-change",
            f"r{revision} has the base's weights, so there is nothing to adapt: use the base model by itself.",
        )
    layers: dict[int, LayerFidelity] = {}
    for layer, found in factors.items():
        _require_wanted(gone)
        layers[layer] = found.fidelity(*sides[layer])
    fidelity = Fidelity(
        rank=max(layer.rank for layer in layers.values()),
        error=max(layer.error for layer in layers.values()),
        rounding=max(layer.rounding for layer in layers.values()),
        layers=layers,
    )
    return adapter_files(loaded, factors), fidelity


def _require_wanted(gone: Event) -> None:
    """Of a layer nothing can be broken off, so this is asked before each. Raises CancelledError, which nobody hears."""
    if gone.is_set():
        raise CancelledError


def _too_dense(revision: int, layer: int, rank: int, most: int) -> ProblemError:
    return ProblemError(
        409,
        "adapter-not-exact",
        f"The edits in force at r{revision} include fine-tuning, which changes all of layer {layer}: an adapter of it "
        f"needs rank {rank}, and rank {most} is the most that was asked for. Ask with rank={rank}, or take "
        f"GET /revisions/{revision}/checkpoint, or revert those edits.",
    )
