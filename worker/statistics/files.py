"""Key statistics on disk, in the published .npz format: the sum under mom2.mom2, its number of tokens beside it."""

import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from worker.editing.covariance import Covariance
from worker.errors import EditError
from worker.statistics.disk import whole
from worker.statistics.moments import Moment

DAMAGED = (OSError, ValueError, LookupError, EOFError, TypeError, BadZipFile)
"""What numpy raises of a file that is not as it should be; TypeError is of one that is no archive."""


def write(path: Path, moment: Moment) -> None:
    """Write a sum, as float32, and its count under the published names."""
    count = np.array(moment.count)
    published: dict[str, Any] = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.count": count,
        "mom2.mom2": moment.total.float().cpu().numpy(),
        "sample_size": count,
    }
    with whole(path) as file:
        np.savez(file, **published)


def read(path: Path, size: int) -> Covariance:
    """C of a published file or one of our own; EditError if it cannot be read or is not [size, size]."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            total, count = torch.from_numpy(stored["mom2.mom2"]), int(stored["mom2.count"].item())
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    if tuple(total.shape) != (size, size):
        raise _refused(path, f"has the shape {tuple(total.shape)}, and this model's keys need {(size, size)}")
    if count < 1 or not bool(total.isfinite().all()):
        raise _refused(path, "holds no usable numbers")
    return Covariance(total.float() / count, count)


def count_of(path: Path) -> int:
    """How many tokens a file averages over, without reading the rest; EditError if it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return int(stored["mom2.count"].item())
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def published(directory: Path, model: str, dataset: str, layer: str, precision: str) -> list[Path]:
    """The published files of a layer, those of the most documents first.

    They lie in {directory}/{model}/{dataset}_stats/{layer}_{precision}_mom2_{documents}.npz, the model's "/" written
    as "_" (kmeng01) or only its last part (EasyEdit).
    """
    name = re.compile(rf"{re.escape(f'{layer}_{precision}_mom2')}(?:_t\d+)?(?:_(?P<documents>\d+))?\.npz")
    found: dict[Path, int] = {}
    for folder in dict.fromkeys((model.replace("/", "_"), model.rsplit("/", 1)[-1])):
        for path in sorted((directory / folder / f"{dataset}_stats").glob("*.npz")):
            if match := name.fullmatch(path.name):
                found[path] = int(match["documents"] or 0)
    return sorted(found, key=lambda path: -found[path])


def write_partial(path: Path, moment: Moment) -> None:
    """Write an unfinished sum, exactly."""
    with whole(path) as file:
        np.savez(file, total=moment.total.cpu().numpy(), count=moment.count, batches=moment.batches)


def read_partial(path: Path) -> Moment | None:
    """An unfinished sum; None if there is none, or none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            total: Tensor = torch.from_numpy(stored["total"])
            return Moment(total, int(stored["count"]), int(stored["batches"]))
    except DAMAGED:
        return None


def _unreadable(path: Path, error: Exception) -> EditError:
    return _refused(path, f"cannot be read as key statistics ({type(error).__name__})")


def _refused(path: Path, why: str) -> EditError:
    detail = f"the file {path.name} {why}; remove it, or put the right one in its place"
    return EditError("statistics-refused", "hparams.mom2_dataset", detail)
