"""Take over another installation's adapter as one edit: its factors are the delta, its manifest has the facts."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from service.checks import check_drift
from service.contracts.edits import BatchRequest, EditStatus, Fact, Outcome
from service.contracts.exports import ExportManifest
from service.contracts.model import Ceilings
from service.contracts.revisions import Revision
from service.edits import Edits
from service.ledger import Ledger
from worker.editing.delta import WeightDelta
from worker.editing.progress import Steps
from worker.engine.history import History
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.engine.verdict import judge
from worker.errors import EditError, WorkerError, WrongBaseError
from worker.lease import Lease
from worker.tools.adapter_files import delta_of, read_adapter
from worker.tools.site import Site

METHOD = "adapter"
"""What the edit says of how it was written."""

COMMIT_SECONDS = 60.0
"""For how long the lease is taken: to write one blob and one entry."""

Result = TypeVar("Result")


def import_adapter(site: Site, path: Path) -> Revision:
    """Append a revision with the adapter in a folder, or in a .tar, on top of the head; raises WorkerError.

    Everything is checked, computed and measured before anything is written, as it is of any edit.
    """
    manifest, files = read_adapter(path)
    site.require_ledger()
    resident = site.resident()
    _check_base(manifest, resident, site.keys.model)
    delta = delta_of(files, resident)
    history = History(resident, Ledger(site.redis, site.keys), site.blobs, mirror=site.mirror)
    history.boot()
    settings = site.settings
    limits = Ceilings(perplexity_ratio=settings.max_perplexity_ratio, kl=settings.max_kl, norm=settings.max_norm)
    check_drift(history.drift, limits)
    state = history.state.plus(delta)
    if not (delta.is_finite() and state.is_finite()):
        raise WorkerError(f"{path}: its factors are not finite. Nothing was changed.")
    state.check()
    request = _request(path, manifest)
    return _committed(site, history, request, delta, state, _outcome(history, request, state, manifest))


def _check_base(manifest: ExportManifest, resident: Resident, model: str) -> None:
    if manifest.base != resident.base_checksum:
        raise WrongBaseError(
            f"The adapter is of {manifest.model} in {manifest.dtype} (base checksum {manifest.base[:16]}…), and the "
            f"base of {model} is another ({resident.base_checksum[:16]}…). Nothing was changed. Name that model with "
            "--model, and its --dtype."
        )


def _request(path: Path, manifest: ExportManifest) -> BatchRequest:
    """The facts of all its edits; of two about the same, the later."""
    told = {(fact.prompt, fact.subject): fact for edit in manifest.edits for fact in edit.facts}
    origin = {name: getattr(manifest, name) for name in ("model", "base", "revision", "checksum")}
    try:
        facts = tuple(Fact(**fact.model_dump()) for fact in told.values())
        return BatchRequest(method=METHOD, facts=facts, hparams=origin)
    except ValidationError as error:
        raise WorkerError(f"{path}: its facts are not those of one edit: {error.errors()[0]['msg']}.") from error


def _outcome(history: History, request: BatchRequest, state: State, manifest: ExportManifest) -> Outcome:
    try:
        verdict = _driven(judge(history.resident, request.facts, state.weights))
    except EditError as error:
        raise WorkerError(f"The adapter's facts cannot be measured here: {error}") from error
    lacks = manifest.fidelity.error if manifest.fidelity else 0.0
    cut = (f"The adapter lacks {lacks:.2%} of the change that it was made of.",) if lacks else ()
    return Outcome(
        hparams=request.hparams,
        summary=verdict.summary,
        facts=verdict.facts,
        metrics=verdict.metrics,
        generations=verdict.generations,
        drift=history.measured_drift(state),
        timings={},
        warnings=cut,
    )


def _driven(steps: Steps[Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def _committed(
    site: Site, history: History, request: BatchRequest, delta: WeightDelta, state: State, outcome: Outcome
) -> Revision:
    """Make it an edit and a revision in one step, while no worker leads."""
    lease = Lease(site.redis, site.keys, "import-adapter", COMMIT_SECONDS)
    if not lease.take():
        raise WorkerError(f"A worker of {site.keys.model} is running. Stop the workers, and import again.")
    try:
        parent = history.resident.revision
        history.lead(lease.token)
        _require_head(site, parent)
        edits = Edits(site.redis, site.keys)
        edit_id, _ = edits.create(request)
        try:
            edits.take_up(edit_id)
            return history.commit(edit_id, parent, delta, state, outcome)
        except BaseException:
            edits.end(edit_id, EditStatus.CANCELLED)  # unless it was committed
            raise
    finally:
        lease.release()


def _require_head(site: Site, revision: int) -> None:
    if site.head != revision:
        raise WorkerError(f"The head has moved from r{revision} meanwhile. Import again.")
