"""Key statistics at hand: from memory, from published files, from the cache, or computed, all layers in one pass."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from worker.editing.covariance import Covariance
from worker.editing.hparams import CovarianceHparams
from worker.editing.progress import Step, Steps
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.statistics import files, hub
from worker.statistics.moments import Moment, Read, accumulate, key_size
from worker.statistics.texts import Texts

MEMORY = 4 << 30
"""Bytes of statistics kept in memory; those last asked for stay, however large."""

SAVE_SECONDS = 60.0
"""How often unfinished sums are saved."""

SAVE_SHARE = 20
"""Saving may take one part in so many of a pass's time: the sums of a large model are gigabytes."""


class StatisticsStore:
    """C of the base weights by layer, each computed once. Runs on the model thread, in a view of the base weights.

    checksum: of the base weights; directory: where what is computed is kept; corpus: the text file or folder behind
    mom2_dataset "corpus"; published: a directory of files in the published layout.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        checksum: str,
        directory: Path,
        corpus: Path | None = None,
        published: Path | None = None,
        *,
        memory: int = MEMORY,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self._loaded = loaded
        self._checksum = checksum
        self._directory = directory
        self._published = published
        self._texts = Texts(loaded, checksum, directory, corpus)
        self._memory = memory
        self._save_seconds = save_seconds
        self._known: OrderedDict[Path, Covariance] = OrderedDict()

    def covariances(self, layers: Sequence[int], hparams: CovarianceHparams) -> Steps[Mapping[int, Covariance]]:
        """C of each layer, kept in memory with what is derived from it; EditError if it cannot be had."""
        places = yield from self.prepare(layers, hparams)
        for layer, path in places.items():
            if path not in self._known:
                self._known[path] = files.read(path, key_size(self._loaded, layer))
                yield Step("statistics", 1, 1)
            self._known.move_to_end(path)
        self._forget(places.values())
        return {layer: self._known[path] for layer, path in places.items()}

    def prepare(self, layers: Sequence[int], hparams: CovarianceHparams) -> Steps[Mapping[int, Path]]:
        """The file of each layer. What there is no file for is computed, in one pass for all such layers.

        Closed between two steps, it keeps what it has; asked again, it goes on from there to the same numbers.
        """
        if outside := [layer for layer in layers if layer >= self._loaded.layers]:
            raise EditError("no-such-layer", "hparams.layers", f"the model has no layer {outside[0]}")
        places = {layer: self._published_file(layer, hparams) for layer in layers}
        own = [layer for layer, path in places.items() if path is None]
        if own:
            tokens = hparams.tokens(key_size(self._loaded, own[0]))
            text = yield from self._texts.text(hparams.mom2_dataset, tokens)
            computed = {layer: self._own_file(layer, text.source, hparams.mom2_dtype, tokens) for layer in own}
            missing = {layer: path for layer, path in computed.items() if not path.is_file()}
            if missing:
                yield from self._compute(missing, text.read, tokens)
            places |= computed
        return {layer: path for layer, path in places.items() if path is not None}

    def _published_file(self, layer: int, hparams: CovarianceHparams) -> Path | None:
        """The published file of the most documents, if it averages over no fewer tokens than were asked for."""
        if self._published is None or hparams.mom2_dataset not in hub.DATASETS:
            return None
        name = self._loaded.family.mlp_out.format(layer)
        where = (self._loaded.name, hparams.mom2_dataset, name, hparams.mom2_dtype)
        for path in files.published(self._published, *where):
            if hparams.mom2_n_tokens is None or files.count_of(path) >= hparams.mom2_n_tokens:
                return path
        return None

    def _own_file(self, layer: int, source: str, precision: str, tokens: int) -> Path:
        """Named as the published files are, with a digest of everything that the numbers depend on."""
        name = f"{self._loaded.family.mlp_out.format(layer)}_{precision}_mom2_{tokens}"
        key = hashlib.sha256("\n".join((self._checksum, source, name)).encode()).hexdigest()[:32]
        return self._directory / f"{name}.{key}.npz"

    def _compute(self, places: Mapping[int, Path], read: Read, tokens: int) -> Steps[None]:
        moments = self._begun(places)
        unsaved = _Saver(places, moments, self._save_seconds)
        try:
            with closing(accumulate(self._loaded, moments, read, tokens)) as steps:
                for step in steps:
                    unsaved.save_if_due()
                    yield step
            for layer, path in places.items():
                _finish(path, moments.pop(layer))
                yield Step("statistics", tokens, tokens)
        except GeneratorExit:
            unsaved.save()
            raise

    def _begun(self, places: Mapping[int, Path]) -> dict[int, Moment]:
        """Each layer's sum so far, on the model's device if there is room."""
        size = key_size(self._loaded, min(places))
        device = _roomy(self._loaded.device, 3 * len(places) * size**2 * 8)
        sums: dict[int, Moment] = {}
        for layer, path in places.items():
            begun = files.read_partial(_partial(path))
            sums[layer] = begun or Moment(torch.zeros(size, size, dtype=torch.float64))
            sums[layer].total = sums[layer].total.to(device)
        return sums

    def _forget(self, stay: Collection[Path]) -> None:
        """Drop what has not been asked for longest until the rest fits."""
        for path in [path for path in self._known if path not in stay]:
            if sum(map(_bytes, self._known.values())) <= self._memory:
                return
            del self._known[path]


class _Saver:
    """Saves unfinished sums, seldom enough that it takes a small part of the time."""

    def __init__(self, places: Mapping[int, Path], moments: Mapping[int, Moment], seconds: float) -> None:
        self._places = places
        self._moments = moments
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def save_if_due(self) -> None:
        if (begin := time.monotonic()) >= self._due:
            self.save()
            took = time.monotonic() - begin
            self._due = time.monotonic() + max(self._seconds, SAVE_SHARE * took)

    def save(self) -> None:
        for layer, moment in self._moments.items():
            files.write_partial(_partial(self._places[layer]), moment)


def _finish(path: Path, moment: Moment) -> None:
    if not bool(moment.total.isfinite().all()):
        detail = "the model's keys are not finite over this text; load it in a wider dtype"
        raise EditError("statistics-not-finite", "hparams.mom2_adjustment", detail)
    files.write(path, moment)
    _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial")


def _roomy(device: torch.device, needed: int) -> torch.device:
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < needed:
        return torch.device("cpu")
    return device


def _bytes(covariance: Covariance) -> int:
    return sum(tensor.nbytes for tensor in _tensors(vars(covariance).values()))


def _tensors(values: Collection[object]) -> Iterator[Tensor]:
    """Also those of a pair, such as a spectrum."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)
