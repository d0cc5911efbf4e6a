"""Draw what a run of benchmarks.load printed: memory of each process, and latency of some kinds, over time, as one SVG.

python -m benchmarks.loading.figure RUN.json --out docs/load.svg
"""

import json
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.figures import figure_arguments
from benchmarks.loading.memory import ROLES

SHOWN = ("edit", "generate", "rollback", "list_revisions")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def main() -> None:
    """Read the run, draw two panels, write the file."""
    arguments = figure_arguments(__doc__)
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "palimpsest", "axes.spines.top": False})
    run = json.loads(arguments.runs[0].read_text(encoding="utf-8").splitlines()[-1])
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    for role, colour in zip(ROLES, COLOURS, strict=False):
        points = [(sample["seconds"] / 60, sample[role]) for sample in run["samples"]]
        _line(axes[0], points, "-", colour, role)
    for kind, colour in zip(SHOWN, COLOURS, strict=True):
        for score, style in (("p50_ms", "-"), ("p95_ms", ":")):
            points = [(part["seconds"] / 60, part[score] / 1e3) for part in run["over_time"][kind]]
            _line(axes[1], points, style, colour, kind if score == "p50_ms" else None)
    axes[0].set(title="resident memory, MB", ylim=(0, None), xlabel="minutes")
    axes[1].set(title="latency, s: median, and 95th percentile (dotted)", yscale="log", xlabel="minutes")
    for axis in axes:
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(arguments.out, metadata={"Date": None})


def _line(axis: Any, points: list[tuple[float, float]], style: str, colour: str, label: str | None) -> None:
    axis.plot(*zip(*points, strict=True), style, color=colour, label=label, linewidth=1.2)


if __name__ == "__main__":
    main()
