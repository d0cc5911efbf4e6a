"""What a report says in words: what was done, on what, and what went wrong."""

from collections.abc import Iterator

from service.contracts.benchmarks import Benchmark, BenchmarkResult, Mode

MOST_FAILURES = 20
"""Failures and faults that a report names."""


def title(result: BenchmarkResult) -> str:
    """What the report is called."""
    methods = ", ".join(method.label for method in result.methods)
    return f"{methods} on {result.dataset}"


def setting(benchmark: Benchmark, result: BenchmarkResult) -> Iterator[tuple[str, str]]:
    """What was done, as terms and their meanings."""
    request = benchmark.request
    yield "model", f"{result.model}, {result.dtype} on {result.device}, edited at r{result.revision}"
    chosen = "drawn" if request.seed is not None else "the first"
    conditions = [
        text
        for asked, text in (
            (request.known_only, "whose target_true is the model's own answer"),
            (request.likelier_only, "whose target_true is likelier than target_new"),
        )
        if asked
    ]
    of = " and ".join(conditions)
    count = len(result.records)
    yield "records", f"{count} of {result.available} ({chosen}){', ' + of if of else ''}{_lost(benchmark, result)}"
    yield "edits", _edits(benchmark, count)
    yield "benchmark", f"{benchmark.id}, {benchmark.created_at:%Y-%m-%d %H:%M} UTC"


def _lost(benchmark: Benchmark, result: BenchmarkResult) -> str:
    """How many records of a file were left out; of a data set by name only the faults are known."""
    whole = len(benchmark.request.records) + benchmark.request.left_out
    lost = whole - result.available
    return f"; left out: {lost} of {whole} in all" if lost > 0 else ""


def _edits(benchmark: Benchmark, count: int) -> str:
    request = benchmark.request
    size = request.size(count)
    many = "1 record" if size == 1 else f"{size} records"
    match request.mode:
        case Mode.SEQUENTIAL:
            return f"sequential: {many} an edit, each on those before it; scored at checkpoints, and at the end"
        case Mode.BATCH:
            return f"batch: {many} an edit, each on the same weights; scored, and dropped"
        case _:
            return "single: one record an edit, each on the same weights; scored, and dropped"


def failures(result: BenchmarkResult) -> list[str]:
    """Edits that failed and records that were left out, each in a sentence; the first of them."""
    found = [
        f"{method.label}, case {record.record.case_id}: {record.outcomes[at].problem}"
        for at, method in enumerate(result.methods)
        for record in result.records
        if record.outcomes[at].problem
    ]
    found += [f"left out: {fault}" for fault in result.faults]
    more = [f"and {len(found) - MOST_FAILURES} more"] if len(found) > MOST_FAILURES else []
    return [*found[:MOST_FAILURES], *more]


KEY = (
    "Scores are means over the records after the edit, in percent, with bootstrapped 95 % intervals. "
    "ES, PS: the new target is likelier than the old one, after the prompt and its paraphrases; NS: the old one stays "
    "likelier, after neighbouring prompts; S: their harmonic mean. EA, PA: the whole new target is the likeliest "
    "answer. neighborhood_acc: share of the neighbours' answers that stay as they were. perplexity, KL: of neutral "
    "sentences, against the revision that the edits were made on. Seconds per edit are without scoring."
)
"""How to read the tables."""
