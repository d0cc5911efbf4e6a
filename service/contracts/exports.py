"""Exports: a revision as files that other programs load."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from service.contracts.base import Contract
from service.contracts.generate import Priority
from service.contracts.scores import Drift, Summaries

DEFAULT_RANK = 256
"""So many rank-one terms are kept as they are. One of the ranks that vLLM can be told to take (docs/exports.md)."""

FOLDER = "exports"
"""In the folder of the blobs: what workers make, until it has been sent."""

MOST_RANK = 65_536
"""No layer of any model is wider."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
"""A plain name: no path of anything."""
Label = Annotated[str, StringConstraints(max_length=4096)]
"""A name, an id or a checksum; a model's may be a path, and none is longer."""


class ExportKind(StrEnum):
    """What is made of a revision."""

    ADAPTER = "adapter"
    CHECKPOINT = "checkpoint"


class ExportRequest(Contract):
    """Make files of a revision: all that are small, or the one that is named.

    The worker puts what it makes, one file after the other, as one object into the storage, named by the request's id.
    """

    priority: ClassVar[Priority] = Priority.BACKGROUND

    export: ExportKind
    revision: Annotated[int, Field(ge=0)]
    rank: Annotated[int, Field(ge=1, le=MOST_RANK, description="of an adapter, at most")] = DEFAULT_RANK
    file: FileName | None = None


class ExportedFile(Contract):
    """A file of an export; without `sha256` it is not made yet, and has to be asked for by its name."""

    name: FileName
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256 | None = None


class LayerFidelity(Contract):
    """How well one layer's factors stand for its change. Norms are Frobenius'."""

    rank: Annotated[int, Field(description="of the change, as far as it is kept")]
    error: Annotated[float, Field(description="|BA - D| / |D|, D being the sum of the deltas; 0: nothing was cut off")]
    rounding: Annotated[
        float, Field(description="|W - (W_base + BA)| / |W - W_base|, W being what is served, rounded to its dtype")
    ]


class Fidelity(Contract):
    """How well an adapter stands for a revision; `error` and `rounding` are the worst layer's."""

    rank: int
    error: float
    rounding: float
    layers: Mapping[int, LayerFidelity]


class Exported(Contract):
    """All files of an export, in the order of the archive; those with a `sha256` were made by this request."""

    files: tuple[ExportedFile, ...]
    fidelity: Annotated[Fidelity | None, Field(description="of an adapter")] = None


class ManifestFile(Contract):
    """What a file of the archive must be."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class ManifestFact(Contract):
    """What an edit has written."""

    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None


class ManifestEdit(Contract):
    """An edit in force: what it wrote, how, and what was measured of it when it was committed."""

    edit: Label
    revision: Annotated[int, Field(ge=0, description="the one that it made")]
    method: Label
    hparams: dict[str, Any]
    facts: tuple[ManifestFact, ...]
    summary: Annotated[Summaries | None, Field(description="means over its facts, before and after")] = None


class ExportManifest(Contract):
    """`manifest.json`, the last file of an archive: where the others come from, and their checksums."""

    format: Literal["palimpsest-export-1"] = "palimpsest-export-1"
    kind: ExportKind
    model: Label
    family: Label
    dtype: Annotated[Label, Field(description="of the weights that are served")]
    base: Annotated[Label, Field(description="the base's checksum, which includes the dtype")]
    revision: Annotated[int, Field(ge=0)]
    checksum: Annotated[Label, Field(description="of all the revision's weights")]
    tensors: Annotated[Mapping[Label, Label], Field(description="checksum of each edited tensor")]
    made_at: Annotated[datetime, Field(description="when the revision was made")]
    drift: Drift | None = None
    fidelity: Fidelity | None = None
    edits: tuple[ManifestEdit, ...]
    files: Mapping[FileName, ManifestFile]
