"""Becomes a command that gets SIGTERM when its parent dies; run as a file, with the parent's pid before the command."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h; the setting survives exec."""


def main(parent: int, command: list[str]) -> None:
    """Replace this process by `command`; on systems other than Linux, without the tether."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent died before its child had begun")
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell to keep out
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
