"""What a load run looks at when nothing moves any more: every revision, every edit, the server's log, and its data."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.generate_alone import Setup
from benchmarks.loading.caller import Caller, Shared
from benchmarks.loading.reading import check_comparisons
from benchmarks.loading.tally import Tally
from service.contracts.generate import GenerateRequest

COMPLAINTS = ("Traceback", "did not stop in time", "ended by itself", "CRITICAL")
"""What a server that is well never says."""


def settled(shared: Shared) -> int:
    """The number of revisions, once all was read and compared; whatever fails here is wrong."""
    with closing(Caller(-1, shared)) as caller:
        try:
            return _settle(caller)
        except Exception as error:  # noqa: BLE001 - nobody else asks, so that there is no excuse
            shared.tally.wrong(f"at the end: {type(error).__name__}: {error}")
            return 0


def check_log(tally: Tally, log: Path) -> None:
    """A line of the server's log that tells of a defect is as wrong as an answer."""
    for line in log.read_text(errors="replace").splitlines():
        if any(word in line for word in COMPLAINTS):
            tally.wrong(f"the log says: {line}")


def checked_at_rest(setup: Setup, folder: Path) -> int:
    """The exit code of `palimpsest fsck`, which reads every blob and line, and folds every revision again."""
    options = ["--model", setup.model, "--dtype", setup.dtype, "--device", setup.device, "--data-dir", str(folder)]
    command = [sys.executable, "-m", "service.cli", "fsck", *options]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - our own
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return done.returncode


def _settle(caller: Caller) -> int:
    """Read all that there is, ask every revision once more, and compare."""
    numbers = [line.revision for line in caller.client.revisions.all()][::-1]
    lines = [caller.client.revisions.get(number) for number in numbers]
    asked = {"prompt": caller.plan.prompts[:1], "max_new_tokens": caller.plan.tokens}
    for before, after in zip(numbers[::2], [*numbers[1::2], numbers[-1]], strict=False):
        request = GenerateRequest.model_validate({**asked, "before": before, "after": after})
        check_comparisons(caller, request, caller.client.generate(request), after)
    caller.truth.settle(lines, caller.client.edits.all())
    return len(lines)
