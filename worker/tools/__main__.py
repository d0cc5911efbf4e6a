"""Run a tool; `python -m worker.tools`, behind `palimpsest fsck`, `gc`, `export-ledger` and `import-ledger`."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console

from service.contracts.revisions import Revision
from service.edits import Edits
from service.errors import ProblemError
from worker.errors import WorkerError
from worker.settings import Settings
from worker.tools.adapters import import_adapter
from worker.tools.archive import Manifest
from worker.tools.fsck import Check
from worker.tools.gc import Swept, collect
from worker.tools.give_up import roll_back
from worker.tools.restore import restore
from worker.tools.site import Site
from worker.tools.transfer import export_ledger, import_ledger

DAMAGED = 1
"""The exit code of an fsck that found something."""

UNDONE = 2
"""The exit code of a tool that could not do what it was asked for."""


@dataclass(frozen=True)
class Done:
    """What a tool has done, for people and for scripts."""

    words: Iterator[str]
    values: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one tool; returns 0, DAMAGED, or UNDONE with the reason in plain words."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _run(_parsed(arguments), Console(soft_wrap=True, highlight=False, markup=False))
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    except (WorkerError, ProblemError) as error:
        reason = str(error)
    except RedisError as error:
        reason = f"Redis does not answer: {error}"
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(reason, style="red")
    return UNDONE


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="palimpsest")
    tools = parser.add_subparsers(dest="tool", required=True)
    fsck = tools.add_parser("fsck")
    for option in ("--restore", "--no-fold", "--roll-back"):
        fsck.add_argument(option, action="store_true")
    tools.add_parser("gc").add_argument("--dry-run", action="store_true")
    for tool in ("export", "import", "import-adapter"):
        tools.add_parser(tool).add_argument("file", type=Path)
    for each in tools.choices.values():
        each.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _run(asked: argparse.Namespace, console: Console) -> int:
    site = Site.of(Settings())
    match asked.tool:
        case "fsck":
            return _fsck(site, asked, console)
        case "gc":
            done = _collected(site, dry_run=asked.dry_run)
        case "export":
            done = _transferred("Exported", asked.file, export_ledger(site, asked.file))
        case "import-adapter":
            done = _adopted(asked.file, import_adapter(site, asked.file), site)
        case _:
            done = _transferred("Imported", asked.file, import_ledger(site, asked.file))
    if asked.json:
        sys.stdout.write(json.dumps(done.values) + "\n")
    else:
        for line in done.words:
            console.print(line)
    return 0


def _fsck(site: Site, asked: argparse.Namespace, console: Console) -> int:
    restored = restore(site) if asked.restore else ()
    if site.head < 0 and not site.mirror.revisions():
        site.require_ledger()
    report = Check(site, restored).run(fold=not asked.no_fold)
    if asked.json:
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
    else:
        for line in report.in_words():
            console.print(line)
    if asked.roll_back:
        for line in roll_back(site, report):
            (Console(stderr=True) if asked.json else console).print(line, soft_wrap=True, highlight=False, markup=False)
    return 0 if report.sound else DAMAGED


def _collected(site: Site, *, dry_run: bool) -> Done:
    swept = collect(site, dry_run=dry_run)
    return Done(_sweeping(swept, dry_run=dry_run), {**asdict(swept), "dry_run": dry_run})


def _sweeping(swept: Swept, *, dry_run: bool) -> Iterator[str]:
    yield f"{'Would delete' if dry_run else 'Deleted'} {swept.files} files, {swept.bytes} bytes."
    if swept.young:
        yield f"{swept.young} more are younger than an hour, so their commit may be under way; they were left."


def _transferred(done: str, path: Path, manifest: Manifest) -> Done:
    values = manifest.model_dump(mode="json", exclude={"members"})
    return Done(_transferring(done, path, manifest), {**values, "file": str(path)})


def _transferring(done: str, path: Path, manifest: Manifest) -> Iterator[str]:
    yield f"{done} {manifest.model}: {manifest.revisions} revisions, {manifest.edits} edits. {path}"
    yield f"head checksum {manifest.head}"


def _adopted(path: Path, revision: Revision, site: Site) -> Done:
    return Done(_adopting(path, revision, site), revision.model_dump(mode="json"))


def _adopting(path: Path, revision: Revision, site: Site) -> Iterator[str]:
    outcome = Edits(site.redis, site.keys).get(str(revision.edit)).outcome
    yield f"{path} is r{revision.revision} of {site.keys.model}, as edit {revision.edit}."
    if outcome is not None:
        before, after = outcome.summary.before.EA, outcome.summary.after.EA
        yield f"{len(outcome.facts)} facts; share that the model says, before and after: {before:.3g}, {after:.3g}"
    yield f"head checksum {revision.checksum}"


if __name__ == "__main__":
    sys.exit(main())
