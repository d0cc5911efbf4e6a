"""The worker's own text: a file or a folder, known by its content."""

import os
from pathlib import Path

import pytest

from tests.driving import finish
from worker.errors import EditError
from worker.statistics import corpus


def _folder(path: Path) -> Path:
    for name, text in (("b.txt", "two\nthree\n"), ("a/z.txt", "one\n"), ("a/skip.md", "no\n"), ("c.txt", "four")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def _digest(path: Path) -> str:
    return finish(corpus.digest(corpus.files(path)))


def test_a_folder_is_all_its_text_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    found = corpus.files(_folder(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/z.txt", "b.txt", "c.txt"]
    assert list(corpus.documents(found)) == ["one\n", "two\n", "three\n", "four"]
    assert corpus.files(tmp_path / "b.txt") == [tmp_path / "b.txt"]


def test_a_line_without_an_end_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LONGEST_LINE", 4)
    (tmp_path / "long.txt").write_text("日本の首都ですか\nno")
    assert list(corpus.documents(corpus.files(tmp_path))) == ["日本の首", "都ですか", "\n", "no"]


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    before = _digest(_folder(tmp_path / "first"))
    assert _digest(_folder(tmp_path / "second")) == before
    (tmp_path / "second/b.txt").write_text("two\nthree!\n")
    assert _digest(tmp_path / "second") != before
    (tmp_path / "first/b.txt").rename(tmp_path / "first/bb.txt")
    assert _digest(tmp_path / "first") == before
    (tmp_path / "first/bb.txt").rename(tmp_path / "first/d.txt")
    assert _digest(tmp_path / "first") != before, "in another order it is another text"


def test_where_one_file_ends_and_the_next_begins_is_part_of_the_digest(tmp_path: Path) -> None:
    for folder, parts in (("first", ("ab", "c")), ("second", ("a", "bc"))):
        (tmp_path / folder).mkdir()
        for name, text in zip("ab", parts, strict=True):
            (tmp_path / folder / f"{name}.txt").write_text(text)
    assert _digest(tmp_path / "first") != _digest(tmp_path / "second")


def test_a_large_file_is_hashed_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CHUNK", 4)
    (tmp_path / "a.txt").write_text("0123456789")
    assert len(list(corpus.digest(corpus.files(tmp_path)))) == 3


def test_a_signature_changes_with_the_file(tmp_path: Path) -> None:
    found = corpus.files(_folder(tmp_path))
    before = corpus.signature(found)
    assert corpus.signature(found) == before
    os.utime(found[1], ns=(1, 1))
    assert corpus.signature(found) != before


@pytest.mark.parametrize("damage", ["missing", "empty folder", "not text"])
def test_what_cannot_be_read_is_a_problem_without_a_path(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "corpus.txt"
    match damage:
        case "empty folder":
            path.mkdir()
        case "not text":
            path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(EditError, match=r"^hparams\.mom2_dataset: the worker's PALIMPSEST_CORPUS ") as raised:
        list(corpus.documents(corpus.files(path)))
    assert str(tmp_path) not in str(raised.value)


def test_a_file_that_goes_while_it_is_read_is_a_problem(tmp_path: Path) -> None:
    found = corpus.files(_folder(tmp_path))
    found[1].unlink()
    for use in (
        corpus.signature,
        lambda files: list(corpus.digest(files)),
        lambda files: list(corpus.documents(files)),
    ):
        with pytest.raises(EditError, match="No such file"):
            use(found)
