"""A benchmark: the records of a data set edited by one method or several, scored, and dropped again."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.contracts.base import Contract, PlainObject, RevisionName, Sent
from service.contracts.jobs import ReadingJob, ReadingRequest
from service.contracts.records import Record
from service.contracts.scores import Drift, RecordScores, Summaries, Summary

MOST_RECORDS = 10_000
"""Records of one benchmark: as many as MEMIT was shown to write (arXiv:2210.07229, section 5.2)."""

MOST_METHODS = 16

MOST_FAULTS, MOST_FAULT = 100, 500
"""Faults that a result tells of, and characters of one."""

MOST_SCORED = 20_000
"""Records times methods: what is found of all of them lies in one document."""

SHIPPED = "palimpsest"
"""The name of the facts that the project ships."""


class Mode(StrEnum):
    """What an edit is made on: alone and one record at a time, alone and many, or on all edits before it."""

    SINGLE = "single"
    BATCH = "batch"
    SEQUENTIAL = "sequential"


class MethodChoice(Sent):
    """A method that takes part, and what is changed of its hyperparameters."""

    method: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$"),
        Field(description="see GET /methods"),
    ]
    hparams: Annotated[
        PlainObject, Field(default_factory=dict, description="overrides of its hyperparameters for this model")
    ]


def _named(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


class BenchmarkRequest(ReadingRequest):
    """`POST /benchmarks`: which records, which methods, and how the edits are made."""

    revision: Annotated[RevisionName, Field(description="what the edits are made on, and compared with")] = "base"
    dataset: Annotated[
        str,
        StringConstraints(min_length=1, max_length=200),
        Field(description="a known data set by name; beside `records`, what they are called"),
    ] = SHIPPED
    records: Annotated[
        tuple[Record, ...],
        Field(fail_fast=True, max_length=MOST_RECORDS, description="instead of those of a known data set"),
    ] = ()
    left_out: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="records of a file that are not among `records`, such as malformed ones"),
    ] = 0
    faults: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=MOST_FAULT)], ...],
        Field(fail_fast=True, max_length=MOST_FAULTS, description="which they are, and why; the result tells them"),
    ] = ()
    methods: Annotated[
        tuple[Annotated[MethodChoice, BeforeValidator(_named)], ...],
        Field(
            fail_fast=True,
            min_length=1,
            max_length=MOST_METHODS,
            description="objects, or just names",
            examples=[["rome"]],
        ),
    ]
    n: Annotated[int, Field(ge=1, le=MOST_RECORDS, description="records, at most")] = 100
    mode: Mode = Mode.SINGLE
    batch_size: Annotated[
        int | None, Field(ge=1, le=MOST_RECORDS, description="records of one edit; null: 1, or in mode `batch` all")
    ] = None
    known_only: Annotated[
        bool, Field(description="only records whose target_true is argmax at every token before any edit")
    ] = False
    likelier_only: Annotated[
        bool, Field(description="only records whose target_true is likelier than target_new before any edit")
    ] = False
    generation: Annotated[
        bool, Field(description="score what is said freely, too: named answers, GE, RS, fluency; takes much longer")
    ] = False
    checkpoints: Annotated[int, Field(ge=1, le=100, description="how often a sequence is scored; at its end it is")] = 5
    seed: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="draws the records; null: the first of the data set")
    ] = None

    @field_validator("batch_size")
    @classmethod
    def _single(cls, batch_size: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("mode") == Mode.SINGLE and batch_size not in (None, 1):
            raise ValueError("must be 1 in mode single; for more, take mode batch or sequential")
        return batch_size

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.n * len(self.methods) > MOST_SCORED:
            raise ValueError(f"n times the number of methods must be at most {MOST_SCORED}; lower n")
        if len({record.case_id for record in self.records}) < len(self.records):
            raise ValueError("each of the records needs a case_id of its own")
        return self

    def size(self, records: int) -> int:
        """How many records one edit writes, of so many."""
        return self.batch_size or (records if self.mode is Mode.BATCH else 1)


class RecordOutcome(Contract):
    """What came of one record with one method."""

    scores: Annotated[RecordScores | None, Field(description="null where the edit failed")] = None
    problem: Annotated[str | None, Field(description="why it did")] = None
    seconds: Annotated[float, Field(description="of its edit, shared among the edit's records")]


class RecordResult(Contract):
    """One record, without its reference texts, and what came of it."""

    record: Record
    outcomes: Annotated[tuple[RecordOutcome, ...], Field(description="one a method, in the order of `methods`")]


class Checkpoint(Contract):
    """A sequence of edits, scored on its way. Scores are of the edited weights."""

    edits: int
    records: Annotated[int, Field(description="written so far")]
    all: Annotated[Summary, Field(description="of all of them")]
    first: Annotated[Summary, Field(description="of those written until the first checkpoint")]
    last: Annotated[Summary, Field(description="of those written since the checkpoint before")]
    drift: Annotated[Drift, Field(description="from the revision that the edits were made on")]


class MethodResult(Contract):
    """What one method came to."""

    method: str
    label: Annotated[str, Field(description="tells it from the others: its name, and what was changed")]
    hparams: Annotated[dict[str, Any], Field(description="all of them")]
    scored: Annotated[int, Field(description="records that the scores are of")]
    failed: Annotated[int, Field(description="records whose edit failed; they are in no mean")] = 0
    edits: Annotated[int, Field(description="that were made")] = 0
    summary: Annotated[Summaries | None, Field(description="means over the records, with 95 % intervals")] = None
    perplexity_ratio: Annotated[
        float | None,
        Field(
            description="of the neutral sentences, edited over the revision that the edits were made on; mean over "
            "edits, of a sequence at its end"
        ),
    ] = None
    kl: Annotated[float | None, Field(description="KL(before || edited) there, nats a token; likewise")] = None
    seconds_per_edit: Annotated[
        float | None, Field(description="mean, without scoring, statistics and context templates")
    ] = None
    seconds_per_record: Annotated[float | None, Field(description="the same, of each record written")] = None
    ci95: Annotated[
        dict[str, tuple[float, float]],
        Field(
            description="bootstrapped 95 % intervals over edits, of perplexity_ratio, kl, seconds_per_edit and "
            "seconds_per_record; of one edit there are none"
        ),
    ] = Field(default_factory=dict)
    timings: Annotated[dict[str, float], Field(description="seconds by phase, all edits together")] = Field(
        default_factory=dict
    )
    checkpoints: Annotated[tuple[Checkpoint, ...], Field(description="of mode sequential")] = ()
    warnings: tuple[str, ...] = ()


class BenchmarkResult(Contract):
    """What a benchmark found; in lists and events the records are left out."""

    revision: Annotated[int, Field(description="the revision that the edits were made on")]
    checksum: Annotated[str, Field(description="of that revision")]
    model: str
    dtype: str
    device: str
    dataset: str
    available: Annotated[int, Field(description="records of the data set that can be used")]
    faults: Annotated[tuple[str, ...], Field(description="records that cannot, and why; the first of them")] = ()
    methods: tuple[MethodResult, ...]
    records: Annotated[tuple[RecordResult, ...], Field(description="in the order in which they were edited")] = ()


class Benchmark(ReadingJob[BenchmarkRequest]):
    """A benchmark as the API shows it. Only `GET /benchmarks/{id}` has the records."""

    noun = "benchmark"

    result: BenchmarkResult | None = None


class BenchmarkPage(Contract):
    """`GET /benchmarks`: newest first; `next` is the cursor of the following page."""

    benchmarks: tuple[Benchmark, ...]
    next: int | None = None
    revision: Annotated[int | None, Field(description="the head; null before a worker has ever started")]
