"""The parser of examples: commands with their continuations and outputs, marks, and what is no example."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docs.checked import check
from tests.docs.examples import Command, Example, examples, whole

words = st.text("abc {}\n", max_size=12).map(lambda inside: f"'{inside}'")
typed = st.lists(words, max_size=3).map(lambda given: " \\\n    ".join(["curl", *given]))
shown = st.lists(st.text("abc{}'\"", min_size=1, max_size=8), max_size=3).map("\n".join)


@given(st.lists(st.builds(Command, typed, shown), min_size=1, max_size=4))
def test_what_is_typed_is_told_from_what_is_shown(commands: list[Command]) -> None:
    text = "\n".join(f"$ {one.typed}" + (f"\n{one.shown}" if one.shown else "") for one in commands)
    assert Example("page.md", 1, "console", text).commands == tuple(commands)


def test_a_here_document_ends_with_its_word() -> None:
    assert not whole("cat > f <<'END'\n{\"it's\": 1}")
    assert whole("cat > f <<'END'\n{\"it's\": 1}\nEND")


def test_fenced_indented_and_marked_blocks_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "# Title\n\n<!-- not run: it takes hours -->\n```console\n$ make all\n```\n\n    palimpsest log\n\n"
        "```python\nprint(1)\n```\n\n    just text\n\n```json\n{}\n```\n"
    )
    found = [(one.line, one.language, one.why_not) for one in examples(tmp_path / "page.md")]
    assert found == [(4, "console", "it takes hours"), (8, "sh", None), (10, "python", None)]


@pytest.mark.parametrize(
    "command",
    [
        "palimpsest edt x",
        "palimpsest log --no-such-option",
        "palimpsest stats --layers",
        "make no-such-target",
        "python -m benchmarks.nothing",
        "python -m benchmarks.rome --no-such-option",
    ],
)
def test_a_command_that_does_not_exist_is_found_out(command: str) -> None:
    with pytest.raises(Exception, match=r".+"):
        check(command)


def test_a_command_that_exists_passes() -> None:
    check("OMP_NUM_THREADS=1 palimpsest generate 'a prompt' --max-new-tokens 8  # a remark")
