"""What would run, import or unpickle what somebody else has written stands nowhere in the code, but where it must."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILES = sorted(path for part in ("service", "worker") for path in (ROOT / part).rglob("*.py"))

MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "runpy", "code", "pty"}

CALLS = {
    *("eval", "exec", "compile", "__import__", "importlib.import_module", "os.system", "os.popen", "torch.load"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load"),
}

METHODS = ROOT / "worker/editing/method.py"
"""Imports the modules that lie in its own package, by the names that it has found there."""

PATTERNS = {"TITLES[kind]", "CONFIG", "self.loaded.family.mlp_out", "self._loaded.family.mlp_out"} | {
    *("loaded.family.mlp_out", "resident.loaded.family.mlp_out", "path", "name")
}
"""What is filled in by `format`: literals of the code, and the paths of modules that a family has."""

MUST_BE_FALSE = {"trust_remote_code", "allow_pickle", "shell"}


def found(tree: ast.AST) -> Iterator[str]:
    """Each unsafe thing, as it is written."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=called, keywords=keywords):
                name = ast.unparse(called)
                if name in CALLS:
                    yield name
                if isinstance(called, ast.Attribute) and called.attr in ("format", "format_map"):
                    filled = called.value
                    if not isinstance(filled, ast.Constant) and ast.unparse(filled) not in PATTERNS:
                        yield ast.unparse(node)
                for keyword in keywords:
                    if keyword.arg in MUST_BE_FALSE and ast.unparse(keyword.value) != "False":
                        yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_somebody_else_has_written(path: Path) -> None:
    unsafe = list(found(ast.parse(path.read_text())))
    assert unsafe == (["importlib.import_module"] * 2 if path == METHODS else [])


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from marshal import loads", "eval(text)", "os.system(text)", "torch.load(path)"),
        *("text.format(1)", "load(trust_remote_code=trust)", "numpy.load(path, allow_pickle=True)"),
    ],
)
def test_it_would_be_found(line: str) -> None:
    assert list(found(ast.parse(line)))
