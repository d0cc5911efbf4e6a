"""C = E[k k^T] is what a plain sum over the keys gives, and lies on disk in the published format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.driving import finish, finish_noting
from tests.families import CONFIGS, tiny_model
from tests.worker.engine.kit import bits, same_bits
from worker.models.loaded import LoadedModel
from worker.statistics import moments


def _batches(loaded: LoadedModel, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(2, loaded.config.vocab_size, (3, 10), generator=generator) for _ in range(count)]


def _plain_keys(loaded: LoadedModel, ids: Tensor, layer: int) -> Tensor:
    seen: list[Tensor] = []
    hook = loaded.mlp_out(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        loaded.model(input_ids=ids)
    hook.remove()
    return seen[0].reshape(-1, seen[0].shape[-1]).double()


@pytest.mark.parametrize("tokens", [1, 45, 90])
@pytest.mark.parametrize("family", CONFIGS)
def test_second_moment_is_the_plain_sum(family: str, tokens: int) -> None:
    loaded = tiny_model(family)
    before = bits(loaded)
    batches = _batches(loaded, 3)
    (total, count), steps = finish_noting(moments.second_moment(loaded, 2, batches, tokens))
    keys = torch.cat([_plain_keys(loaded, ids, 2) for ids in batches])[:tokens]
    torch.testing.assert_close(total, (keys.T @ keys).float(), rtol=1e-4, atol=1e-5)
    assert count == tokens
    assert steps[-1].step == steps[-1].steps == tokens
    assert same_bits(before, bits(loaded))
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_a_stopped_pass_leaves_no_hook() -> None:
    loaded = tiny_model("llama")
    steps = moments.second_moment(loaded, 1, _batches(loaded, 3), 90)
    next(steps)
    steps.close()
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_no_text_is_an_error() -> None:
    with pytest.raises(ValueError, match="no text"):
        finish(moments.second_moment(tiny_model("llama"), 1, [], 10))


def test_what_is_saved_is_the_published_format(tmp_path: Path) -> None:
    total = torch.rand(6, 6)
    path = tmp_path / "deep" / "c.npz"
    moments.save(path, total, 40)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored) == {"mom2.constructor", "mom2.count", "mom2.mom2", "sample_size"}
        assert stored["mom2.mom2"].dtype == np.float32
        assert int(stored["mom2.count"]) == 40
        assert np.array_equal(stored["mom2.mom2"], total.numpy())
    assert torch.equal(moments.load(path), total / 40)
    assert list(path.parent.iterdir()) == [path], "no partial file is left"


def test_a_published_file_can_be_read(tmp_path: Path) -> None:
    """As the papers' own code writes them: the sum in float32, the count as an array of one."""
    path = tmp_path / "transformer.h.17.mlp.c_proj_float32_mom2_100000.npz"
    total = np.eye(4, dtype=np.float32) * 8
    published = {"mom2.constructor": "util.runningstats.SecondMoment()", "mom2.count": 2, "mom2.mom2": total}
    np.savez(path, **{**published, "sample_size": 100000})  # type: ignore[arg-type]
    assert torch.equal(moments.load(path), torch.eye(4) * 4)


def test_statistics_lie_where_all_that_they_depend_on_says(tmp_path: Path) -> None:
    parts = ("checksum", 3, "self", 1000)
    path = moments.cache_path(tmp_path, *parts)
    assert path == moments.cache_path(tmp_path, *parts)
    others = [("other", 3, "self", 1000), ("checksum", 4, "self", 1000), ("checksum", 3, "x", 1000), (*parts[:3], 1001)]
    assert len({path, *(moments.cache_path(tmp_path, *other) for other in others)}) == 5
