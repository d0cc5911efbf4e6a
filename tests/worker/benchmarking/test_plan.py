"""Every record is edited once a method, checkpoints lie evenly and at the end, and the time left is a pace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contracts.benchmarks import BenchmarkRequest
from worker.benchmarking.plan import Clock, units_of

MODES = st.sampled_from(["batch", "sequential"])


@given(MODES, st.integers(1, 60), st.integers(1, 20), st.integers(1, 12))
def test_every_record_is_edited_once_and_scored_at_the_end(mode: str, records: int, size: int, looks: int) -> None:
    request = BenchmarkRequest.model_validate(
        {"methods": ["memit"], "mode": mode, "batch_size": size, "checkpoints": looks}
    )
    units = units_of(request, 0, records)
    edited = [at for unit in units if unit.edits for at in range(unit.begin, unit.end)]
    assert edited == list(range(records))
    assert [unit.index for unit in units] == list(range(len(units)))
    if mode == "batch":
        assert all(unit.edits and unit.scores for unit in units)
        return
    seen = [unit for unit in units if unit.scores]
    edits = len(units) - len(seen)
    assert len(seen) == min(looks, edits)
    assert [unit.begin for unit in seen] == [0] * len(seen)
    assert units[-1] is seen[-1]
    assert seen[-1].end == records


def test_the_time_left_is_each_methods_own_pace() -> None:
    request = BenchmarkRequest.model_validate({"methods": ["rome", "memit"]})
    units = [unit for method in range(2) for unit in units_of(request, method, 3)]
    clock = Clock(units)
    assert (clock.step, clock.steps, clock.seconds_left) == (0, 6, None)
    clock.done(units[0], 2.0)
    assert (clock.step, clock.seconds_left) == (1, 10.0), "what was never done is as fast as the others"
    clock.done(units[3], 20.0)
    assert clock.seconds_left == pytest.approx(2 * 2.0 + 2 * 20.0)
    for unit in units:
        clock.done(unit, 1.0)
    assert (clock.step, clock.seconds_left) == (6, 0.0)
