"""Statistics on disk: the published format, read and written; what does not fit is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worker.errors import EditError
from worker.statistics import files
from worker.statistics.moments import Moment


def _publish(path: Path, **changes: Any) -> Path:
    """As kmeng01's code writes them: the sum in float32, not divided."""
    total = np.eye(4, dtype=np.float32) * 8
    stored: dict[str, Any] = {
        "mom2.constructor": "util.runningstats.SecondMoment()",
        "mom2.count": 2,
        "mom2.mom2": total,
    }
    stored |= {"sample_size": 100000, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in stored.items() if value is not None})
    return path


def test_what_is_written_is_the_published_format(tmp_path: Path) -> None:
    total = torch.rand(6, 6, dtype=torch.float64)
    path = tmp_path / "deep" / "c.npz"
    files.write(path, Moment(total, 40, 3))
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored) == {"mom2.constructor", "mom2.count", "mom2.mom2", "sample_size"}
        assert stored["mom2.mom2"].dtype == np.float32
        assert int(stored["mom2.count"]) == 40
        assert str(stored["mom2.constructor"]) == "util.runningstats.SecondMoment()"
        assert np.array_equal(stored["mom2.mom2"], total.float().numpy())
    covariance = files.read(path, 6)
    assert torch.equal(covariance.matrix, total.float() / 40)
    assert covariance.count == files.count_of(path) == 40
    assert list(path.parent.iterdir()) == [path], "no partial file is left"


def test_a_published_file_can_be_read(tmp_path: Path) -> None:
    covariance = files.read(_publish(tmp_path / "c.npz"), 4)
    assert torch.equal(covariance.matrix, torch.eye(4) * 4)
    assert covariance.matrix.dtype == torch.float32
    assert covariance.count == 2


def test_a_count_as_an_array_of_one_or_a_sum_in_float64_do_too(tmp_path: Path) -> None:
    path = _publish(tmp_path / "c.npz", **{"mom2.count": np.array([2]), "mom2.mom2": np.eye(4) * 8})
    assert torch.equal(files.read(path, 4).matrix, torch.eye(4) * 4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mom2.mom2": np.eye(5, dtype=np.float32)}, r"has the shape \(5, 5\), and this model's keys need \(4, 4\)"),
        ({"mom2.mom2": np.ones(4, dtype=np.float32)}, r"has the shape \(4,\), and this model's keys need \(4, 4\)"),
        ({"mom2.mom2": np.full((4, 4), np.nan, dtype=np.float32)}, "holds no usable numbers"),
        ({"mom2.count": 0}, "holds no usable numbers"),
        ({"mom2.mom2": None}, r"cannot be read as key statistics \(KeyError\)"),
        ({"mom2.mom2": np.array([{}], dtype=object)}, r"cannot be read as key statistics \(ValueError\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = _publish(tmp_path / "layer_float32_mom2_100000.npz", **changes)
    with pytest.raises(EditError, match=rf"^hparams\.mom2_dataset: the file {path.name} {reason}; remove") as raised:
        files.read(path, 4)
    assert raised.value.name == "statistics-refused"
    assert str(tmp_path) not in str(raised.value)


def test_what_is_cut_off_or_no_archive_is_refused(tmp_path: Path) -> None:
    path = _publish(tmp_path / "c.npz")
    path.write_bytes(path.read_bytes()[:300])
    for use in (lambda: files.read(path, 4), lambda: files.count_of(path)):
        with pytest.raises(EditError, match=r"the file c\.npz cannot be read"):
            use()
    np.save(path.with_suffix(".npy"), np.eye(4))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(EditError, match=r"the file c\.npz cannot be read"):
        files.read(path, 4)
    path.write_text("not an archive")
    with pytest.raises(EditError, match=r"the file c\.npz cannot be read"):
        files.read(path, 4)


LAYER = "transformer.h.17.mlp.c_proj"


@pytest.mark.parametrize("folder", ["EleutherAI_gpt-j-6B", "gpt-j-6B"])
def test_published_files_are_found_in_either_layout(tmp_path: Path, folder: str) -> None:
    def place(name: str, dataset: str = "wikipedia") -> Path:
        return _publish(tmp_path / folder / f"{dataset}_stats" / name)

    wanted = {
        place(f"{LAYER}_float32_mom2_100000.npz"),
        place(f"{LAYER}_float32_mom2_t1024_2000.npz"),
        place(f"{LAYER}_float32_mom2.npz"),
    }
    place(f"{LAYER}_float64_mom2_100000.npz")
    place(f"{LAYER.replace('17', '7')}_float32_mom2_100000.npz")
    place(f"{LAYER.replace('.', 'x')}_float32_mom2_100000.npz")
    place(f"{LAYER}_float32_mom2_100000.npz", "wikitext")
    found = files.published(tmp_path, "EleutherAI/gpt-j-6B", "wikipedia", LAYER, "float32")
    assert set(found) == wanted
    assert found[0].name == f"{LAYER}_float32_mom2_100000.npz", "that of the most documents first"
    assert files.published(tmp_path, "EleutherAI/gpt-j-6B", "c4", LAYER, "float32") == []


def test_unfinished_sums_come_back_exactly(tmp_path: Path) -> None:
    moment = Moment(torch.rand(5, 5, dtype=torch.float64), 77, 3)
    files.write_partial(tmp_path / "c.partial", moment)
    again = files.read_partial(tmp_path / "c.partial")
    assert again is not None
    assert torch.equal(again.total, moment.total)
    assert again.total.dtype == torch.float64
    assert (again.count, again.batches) == (77, 3)


def test_without_usable_unfinished_sums_a_pass_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "c.partial"
    assert files.read_partial(path) is None
    path.write_bytes(b"PK half of it")
    assert files.read_partial(path) is None
