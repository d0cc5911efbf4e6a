"""Child processes that cannot outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from service import tether

POLL_SECONDS = 0.05


class Child:
    """A running child in a session of its own, so that Ctrl-C reaches the parent alone.

    `keep` are file descriptors that stay open in it: a lock lives as long as the last process that holds it.
    Must be made on the main thread: Linux ends a tethered child with the thread that started it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        self.name = name
        # -I and -S: the tether needs nothing but the standard library, and starts in 15 ms
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
        self._process = subprocess.Popen(  # noqa: S603 - the command is the caller's own
            tethered,
            env={**os.environ, **(env or {})},
            pass_fds=tuple(keep),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def title(self) -> str:
        """Its name as a sentence begins with it: The worker, Worker 2."""
        return self.name.capitalize() if self.name[-1].isdigit() else f"The {self.name}"

    @property
    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    @property
    def exit_code(self) -> int | None:
        """As subprocess has it: negative for a signal, None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Ask it to end (SIGTERM); does nothing once it has."""
        self._process.terminate()

    def wait(self, seconds: float, *, impatient: Callable[[], bool] = lambda: False) -> bool:
        """Wait for its end, until `impatient` says otherwise; then kill it and all that it started.

        Returns whether it ended by itself.
        """
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > deadline or impatient():
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
                return False
            time.sleep(POLL_SECONDS)
        return True
