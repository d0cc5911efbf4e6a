"""Running a page's examples in processes of their own, against the stack in place of the server that the page names."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.conftest import ROOT, SECONDS, Stack
from tests.docs.examples import Command

SERVER = "http://127.0.0.1:8000"
"""The server of every page."""

AFTER = "@@@ ended:"
ID = re.compile(r"\b[0-9a-f]{16}\b")
KIND = re.compile(r"/(edits|evaluations|traces|benchmarks)/$")
FIELD = re.compile(r'"(\w+)":')
PROBLEM = "urn:palimpsest:problem"


@dataclass
class Page:
    """A page's working directory, and what stands here for the ids that it shows."""

    stack: Stack
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """What the page says, with this stack's URL and this run's ids."""
        text = text.replace(SERVER, self.stack.url)
        return ID.sub(lambda found: self._id(found[0], text[: found.start()]), text)

    def _id(self, shown: str, before: str) -> str:
        kind = KIND.search(before)
        return self.ids.get(shown) or self.ids.setdefault(shown, self.stack.some(kind[1] if kind else "edits"))

    def python(self, text: str, where: str) -> None:
        """Run a block of Python; it must end by itself."""
        ran = self._run([sys.executable, "-c", self.here(text)])
        assert ran.returncode == 0, f"{where}\n{text}\n{ran.stdout}"

    def shell(self, commands: Sequence[Command]) -> None:
        """Run the commands of a block in one shell; each must succeed, and say what the page shows."""
        script = "\n".join(f'{self.here(command.typed)}\nprintf "\\n{AFTER} %d\\n" $?' for command in commands)
        ran = self._run(["bash", "-c", script])
        said = re.split(rf"\n{AFTER} (\d+)\n", ran.stdout)
        for command, output, status in zip(commands, said[::2], said[1::2], strict=False):
            self._compare(command, output, int(status))
        assert len(said) == 2 * len(commands) + 1, f"the shell stopped early:\n{ran.stdout}"

    def _compare(self, command: Command, output: str, status: int) -> None:
        told = f"$ {command.typed}\n{output}"
        assert status == 0, told
        assert (PROBLEM in output) == (PROBLEM in command.shown), told
        missing = set(FIELD.findall(command.shown)) - set(FIELD.findall(output))
        assert not missing, f"the page shows {sorted(missing)}, which is not in the answer\n{told}"
        for shown, found in zip(_ids(command.shown), _ids(output), strict=False):
            self.ids.setdefault(shown, found)

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
        servers = {"PALIMPSEST_SERVER": self.stack.url, "PALIMPSEST_URL": self.stack.url}
        return {**kept, **servers, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "OMP_NUM_THREADS": "1"}


def _ids(text: str) -> list[str]:
    return list(dict.fromkeys(ID.findall(text)))
