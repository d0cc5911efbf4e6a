"""Draw what runs of benchmarks.counterfact printed: generality against locality, each with its 95 % interval.

python -m benchmarks.tradeoff RUN.json [RUN.json ...] --out docs/tradeoff.svg
"""

import json
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.figures import figure_arguments

MOST_LOST = 0.05
"""Of NS, that an edit may cost."""

OF_STATISTICS = ("mom2_dataset", "mom2_n_tokens")


def main() -> None:
    """Read the runs, draw one point each, write the file."""
    arguments = figure_arguments(__doc__)
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "palimpsest", "axes.spines.top": False})
    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    for number, path in enumerate(arguments.runs):
        run = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        across, up = run["scores"]["NS"], run["scores"]["PS"]
        axis.errorbar(
            across["after"],
            up["after"],
            xerr=[[across["after"] - across["ci95"][0]], [across["ci95"][1] - across["after"]]],
            yerr=[[up["after"] - up["ci95"][0]], [up["ci95"][1] - up["after"]]],
            fmt="o",
            color=f"C{number}",
            markersize=4,
            linewidth=0.4,
            label=f"{_name(run)} (ES {100 * run['scores']['ES']['after']:.0f})",
        )
        base = across["before"]
    axis.axvline(base, color="black", linewidth=0.8)
    axis.axvline(base - MOST_LOST, color="black", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="NS: neighbours that keep their answer (lines: the base, and 5 points less)", ylabel="PS: paraphrases"
    )
    figure.legend(loc="outside lower center", frameon=False)
    figure.savefig(arguments.out, metadata={"Date": None})


def _name(run: dict[str, Any]) -> str:
    """The method, and what of its hyperparameters the run had set, but for where C is from."""
    told = {name: value for name, value in run["hparams"].items() if name not in OF_STATISTICS}
    return " ".join([run["method"], *(f"{name}={value}" for name, value in told.items())])


if __name__ == "__main__":
    main()
