"""The page of hyperparameters: from the methods' own types and the YAMLs that are shipped."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.hooks.schemas import code, kind, limits, name_of, table
from worker.editing.hparams import read_file
from worker.editing.method import Method, discover

HEAD = """# Hyperparameters

Names are those of the papers' published code. `GET /methods` has the same with the values for the resident model; a
request overrides any of them (`"hparams": {"v_lr": 0.3}`, or `--hparam v_lr=0.3` in the shell), and a misspelt name is
refused. For a model without a column here a request names all that have no default.

What they do to smollm2-135m is [measured](editing.md); [how edits work](how-edits-work.md) says where each stands in
the equation. [`palimpsest suggest-hparams`](tracing.md) proposes `layers` for a model that has none.
"""


def page(shipped: Path) -> str:
    """Markdown: for each method its hyperparameters, and what is shipped for each model. `shipped`: hparams/."""
    methods = discover()
    lines = [HEAD, *_overview(methods.values(), shipped)]
    for name, method in methods.items():
        lines += ["", f"## {name}", "", f"{method.title}. {_cited(method.source)}.", ""]
        lines += _table(method, _values(shipped / name))
    return "\n".join(lines)


def _overview(methods: Iterable[Method], shipped: Path) -> list[str]:
    rows = [
        (
            f"[`{method.name}`](#{method.name})",
            "many" if method.batch else "one",
            ", ".join(_values(shipped / method.name)),
        )
        for method in methods
    ]
    return table(("method", "facts at once", "models with shipped values"), rows)


def _values(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    return {path.stem: read_file(path).hparams for path in sorted(folder.glob("*.yaml"))}


def _table(method: Method, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each hyperparameter means, takes, and is by default; then the values by model, of those that any names."""
    schema = method.hparams.model_json_schema()
    names = sorted(schema["properties"], key=lambda name: name not in schema["required"])
    meanings: list[Sequence[str]] = []
    for name in names:
        field = schema["properties"][name]
        default = code(_compact(field["default"])) if field.get("default") is not None else ""
        takes = "; ".join(filter(None, (kind(field, name_of), limits(field))))
        meanings.append((f"`{name}`", str(field.get("description", "")), takes, default))
    by_model = [
        (f"`{name}`", *(code(_compact(given[name])) if name in given else "" for given in values.values()))
        for name in names
        if any(name in given for given in values.values())
    ]
    return [*table(("name", "meaning", "takes", "default"), meanings), *table(("value for", *values), by_model)]


def _compact(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(_compact(one)) for one in value) + "]"
    return value


def _cited(source: str) -> str:
    authors, _, number = source.partition("arXiv:")
    number, _, rest = number.partition(",")
    linked = f"{authors}[arXiv:{number}](https://arxiv.org/abs/{number})"
    return f"{linked},{_cited(rest)}" if "arXiv:" in rest else linked + (f",{rest}" if rest else "")
