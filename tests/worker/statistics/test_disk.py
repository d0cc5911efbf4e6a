"""A file is there whole or not at all."""

from pathlib import Path

import pytest

from worker.statistics.disk import whole


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    with whole(path) as file:
        file.write(b"first")
    with pytest.raises(TypeError), whole(path) as file:
        file.writelines([b"sec", "ond"])  # type: ignore[list-item]
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_bears_the_name_before_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole(path) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
