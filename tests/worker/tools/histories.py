"""Random histories of a stand."""

from typing import Any

from hypothesis import strategies as st

from tests.worker.engine.kit import Stand, dense_delta, random_delta

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["edit", "dense edit"]), st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True)
        ),
        st.tuples(st.sampled_from(["rollback", "revert", "reapply"]), st.integers(0, 99)),
    ),
    max_size=10,
)


def walked(stand: Stand, steps: Any) -> None:
    """Take the steps that can be taken."""
    for seed, (kind, value) in enumerate(steps):
        lines = stand.ledger.lines()
        match kind:
            case "edit":
                stand.commit(random_delta(stand.loaded, *value, seed=seed))
            case "dense edit":
                stand.commit(dense_delta(stand.loaded, *value, seed=seed))
            case "rollback":
                stand.history.rollback(value % len(lines.entries))
            case _:
                candidates = [edit for edit in lines.committed if (edit in lines.head) is (kind == "revert")]
                if candidates:
                    getattr(stand.history, kind)(candidates[value % len(candidates)])
