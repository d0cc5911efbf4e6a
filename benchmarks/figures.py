"""What the scripts that draw have in common."""

import argparse
from pathlib import Path


def figure_arguments(doc: str | None) -> argparse.Namespace:
    """What a script that draws takes: the files that benchmarks printed, and where the figure goes."""
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    found.add_argument("runs", type=Path, nargs="+")
    found.add_argument("--out", type=Path, required=True)
    return found.parse_args()
