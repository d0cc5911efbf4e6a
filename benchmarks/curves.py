"""Draw what runs of benchmarks.sequential printed: early and late facts, locality and perplexity, as one SVG.

python -m benchmarks.curves RUN.json [RUN.json ...] --out docs/sequential.svg
"""

import json
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.figures import figure_arguments

PANELS = (
    ("early", "EA", "first 50 facts: target is argmax"),
    ("late", "EA", "last 50 facts: target is argmax"),
    ("late", "neighborhood_acc", "neighbours of the last 50 unchanged"),
    ("early", "PS", "first 50 facts: paraphrase success"),
)
COLOURS = {"memit": "#0072b2", "alphaedit": "#d55e00"}


def main() -> None:
    """Read the runs, draw five panels, write the file."""
    arguments = figure_arguments(__doc__)
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "palimpsest", "axes.spines.top": False})
    runs = [json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) for path in arguments.runs]
    figure, axes = plt.subplots(1, len(PANELS) + 1, figsize=(14, 2.8), layout="constrained")
    for axis, (group, score, title) in zip(axes, PANELS, strict=False):
        for run in runs:
            points = [point for point in run["points"] if group in point]
            _line(axis, run, [point["facts"] for point in points], [point[group][score] for point in points])
        axis.set(title=title, ylim=(-0.03, 1.03), xlabel="facts written")
    for run in runs:
        _line(axes[-1], run, [p["facts"] for p in run["points"]], [p["perplexity"] for p in run["points"]])
    axes[-1].set(title="perplexity, wikitext-2", yscale="log", xlabel="facts written")
    axes[0].legend(frameon=False)
    figure.savefig(arguments.out, metadata={"Date": None})


def _line(axis: Any, run: dict[str, Any], x: list[float], y: list[float]) -> None:
    style = "-" if run["batch"] > 1 else "--"
    label = f"{run['method']}, {run['batch']} at once"
    axis.plot(x, y, style, color=COLOURS.get(run["method"]), label=label, linewidth=1.2, marker=".", markersize=3)


if __name__ == "__main__":
    main()
