"""The proposed layers are neighbours around the largest mean effect."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.traces import Effects, Kind, TraceRequest, TraceResult
from service.proposal import HALF, MOST_LAYERS, around, as_yaml, propose
from tests.service.tracing import BODY, trace_result

EFFECTS = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


def result(*effects: float) -> TraceResult:
    request = TraceRequest.model_validate({**BODY, "kinds": ["mlp"], "tokens": "last-subject"})
    return trace_result(request, effects={Kind.MLP: Effects(mean=(effects,))})


@given(EFFECTS)
def test_the_range_is_of_neighbours_around_the_peak_that_are_not_far_below_it(effects: list[float]) -> None:
    peak = max(range(len(effects)), key=effects.__getitem__)
    layers = around(effects, peak)
    assert list(layers) == list(range(layers[0], layers[-1] + 1))
    assert peak in layers
    assert 1 <= len(layers) <= MOST_LAYERS
    assert all(effects[layer] >= HALF * effects[peak] for layer in layers if layer != peak)
    if len(layers) < MOST_LAYERS:
        beside = [layer for layer in (layers[0] - 1, layers[-1] + 1) if 0 <= layer < len(effects)]
        assert all(effects[layer] < HALF * effects[peak] for layer in beside), "it ends where the effect does"


@pytest.mark.parametrize(
    ("effects", "layers"),
    [
        ((0.1, 0.4, 0.8, 0.6, 0.3), (1, 2, 3)),
        ((0.9, 0.8, 0.1), (0, 1)),
        ((0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (1, 2, 3, 4, 5)),
        ((0.6, 0.1, 1.0), (2,)),
        ((0.7, 1.0, 0.6, 0.6, 0.6, 0.6), (0, 1, 2, 3, 4)),
    ],
)
def test_examples(effects: tuple[float, ...], layers: tuple[int, ...]) -> None:
    assert around(effects, effects.index(max(effects))) == layers


def test_it_is_the_mean_over_facts_that_decides() -> None:
    found = propose([result(0.0, 0.3, 0.1), result(0.2, 0.1, 0.3), result(0.1, 0.5, 0.2)])
    assert found.effects == pytest.approx((0.1, 0.3, 0.2))
    assert found.errors == pytest.approx((0.1 / 3**0.5, 0.2 / 3**0.5, 0.1 / 3**0.5))
    assert (found.facts, found.peak, found.layers) == (3, 1, (1, 2))
    assert propose([result(0.1, 0.2)]).errors == (0.0, 0.0)


def test_the_yaml_is_what_the_files_of_hyperparameters_have() -> None:
    text = as_yaml(propose([result(0.0, 0.3, 0.2)]))
    assert yaml.safe_load(text) == {"layers": [1], "v_loss_layer": 2}
    assert "# layers: [1, 2]" in text
    assert " 1   0.300 ± 0.000  <- largest" in text
