"""Which layers to edit, from where the facts of many subjects are looked up (ROME, section 2; MEMIT, section 4.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from service.contracts.traces import Kind, TraceResult

MOST_LAYERS = 5
"""Of a range: as many as MEMIT's authors edit in most models."""

HALF = 0.5
"""Of the largest mean effect, what a layer of the range has at least."""


@dataclass(frozen=True)
class Proposal:
    """effects, errors: by layer, the MLP's mean indirect effect at the subjects' last tokens, and its standard error.

    peak: the layer in the middle of the window with the largest; layers: those around it.
    """

    facts: int
    effects: tuple[float, ...]
    errors: tuple[float, ...]
    peak: int
    layers: tuple[int, ...]


def propose(results: Sequence[TraceResult]) -> Proposal:
    """From traces of one model, each of the MLP at its subject's last token alone."""
    by_layer = list(zip(*(result.effects[Kind.MLP].mean[0] for result in results), strict=True))
    effects = tuple(map(mean, by_layer))
    errors = tuple(stdev(of_facts) / len(results) ** 0.5 if len(results) > 1 else 0.0 for of_facts in by_layer)
    peak = max(range(len(effects)), key=effects.__getitem__)
    return Proposal(len(results), effects, errors, peak, around(effects, peak))


def around(effects: Sequence[float], peak: int) -> tuple[int, ...]:
    """At most MOST_LAYERS neighbouring layers that have at least HALF of the peak's effect, the larger ones first."""
    first = last = peak
    while last - first + 1 < MOST_LAYERS:
        beside = [layer for layer in (first - 1, last + 1) if 0 <= layer < len(effects)]
        best = max(beside, key=effects.__getitem__, default=peak)
        if best == peak or effects[best] < HALF * effects[peak]:
            break
        first, last = min(first, best), max(last, best)
    return tuple(range(first, last + 1))


def as_yaml(proposal: Proposal) -> str:
    """The layers as the files in hparams/ have them, with what they follow from as comments."""
    last = len(proposal.effects) - 1
    lines = [f"# MLP's mean indirect effect at the last subject token, {proposal.facts} facts, by middle layer:"]
    lines += (
        f"#   {layer:2d}  {effect:6.3f} ± {error:.3f}" + ("  <- largest" if layer == proposal.peak else "")
        for layer, (effect, error) in enumerate(zip(proposal.effects, proposal.errors, strict=True))
    )
    lines += ("# of methods that edit one layer (rome, r-rome, ft-l, ...):", f"layers: [{proposal.peak}]")
    lines += ("# of methods that spread over several (memit, pmet, ...):", f"# layers: {list(proposal.layers)}")
    return "\n".join([*lines, f"v_loss_layer: {last}"])
