"""EasyEdit's way to edit, on a server: BaseEditor.from_hparams(hparams).edit(...) gives metrics and an edited model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from service.client import Palimpsest
from service.contracts.edits import Edit, EditRequest, Fact
from service.errors import ProblemError
from service.reporting.easyedit import entry_of

METHODS = {
    "ROME": "rome",
    "R-ROME": "r-rome",
    "MEMIT": "memit",
    "EMMET": "emmet",
    "PMET": "pmet",
    "AlphaEdit": "alphaedit",
    "FT": "ft-m",
}
"""What EasyEdit calls the methods; any other name is taken as this project's own."""

Texts = str | Sequence[str]


@dataclass(frozen=True)
class HyperParams:
    """Hyperparameters as EasyEdit reads them; `alg_name` names the method.

    values: overrides of those shipped for the server's model. What is no hyperparameter of the method is left out: the
    model, its device and its statistics are the server's.
    """

    alg_name: str
    server: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_hparams(cls, name_or_path: str | Path, server: str | None = None) -> Self:
        """From one of EasyEdit's YAML files, with or without its ending; needs pyyaml, as a worker does."""
        import yaml  # noqa: PLC0415 - the service does without it

        path = Path(name_or_path)
        path = path if path.suffix in (".yaml", ".yml") else path.with_name(f"{path.name}.yaml")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = values.pop("alg_name")
        return cls(name, server, {key: _number(value) for key, value in values.items()})


def _number(value: Any) -> Any:
    """`5e-1` is a text to PyYAML, and a number to whoever wrote it."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


class EditedModel:
    """The model as an edit has left it, over HTTP. The revision stays readable, whatever is edited later."""

    def __init__(self, client: Palimpsest, revision: int) -> None:
        self.revision = revision
        self._client = client

    def generate(self, prompts: Texts, max_new_tokens: int = 40, **options: Any) -> list[str]:
        """Each prompt with its continuation; greedy, unless temperature, top_p, top_k, seed, ... say otherwise."""
        given = [prompts] if isinstance(prompts, str) else list(prompts)
        asked = {"max_new_tokens": max_new_tokens, "after": self.revision, **options}
        answer = self._client.generate(given, **asked)
        return [found.prompt + found.after.text for found in answer.results]


class BaseEditor:
    """Edits facts on a server, one revision each."""

    def __init__(self, hparams: HyperParams, client: Palimpsest) -> None:
        self.hparams = hparams
        self.client = client
        self.alg_name = hparams.alg_name

    @classmethod
    def from_hparams(cls, hparams: HyperParams, client: Palimpsest | None = None) -> Self:
        """An editor of the server that the hyperparameters name, or of another one."""
        return cls(hparams, client or Palimpsest(hparams.server))

    def edit(
        self,
        prompts: Texts,
        target_new: Texts,
        ground_truth: Texts | None = None,
        subject: Texts | None = None,
        rephrase_prompts: Texts | None = None,
        *,
        locality_inputs: Mapping[str, Mapping[str, Texts]] | None = None,
        portability_inputs: Mapping[str, Mapping[str, Texts]] | None = None,
        keep_original_weight: bool = False,
    ) -> tuple[list[dict[str, Any]], EditedModel, None]:
        """Edit the facts one after another, each on those before it; metrics are of each fact after its own edit.

        keep_original_weight: let the head go back afterwards to where it was; the edited model can be asked all the
        same. The third value stands where EasyEdit has the weights that it could put back. An edit that the server
        cannot make is raised as JobFailedError; those before it stay, unless the head was to go back.
        """
        columns = {"prompt": prompts, "target_new": target_new, "target_true": ground_truth, "subject": subject}
        facts = _facts({**columns, "paraphrases": rephrase_prompts}, locality_inputs, portability_inputs)
        before = self.client.model().revision
        overrides = self._overrides()
        metrics, revision = [], before
        try:
            for case_id, fact in enumerate(facts):
                edit = self._applied(fact, overrides)
                revision = edit.revision or revision
                metrics.append(_metrics(case_id, fact, edit))
        finally:
            if keep_original_weight and revision != before:
                self.client.rollback(before)
        return metrics, EditedModel(self.client, revision), None

    @property
    def method(self) -> str:
        """This project's name of the method."""
        return METHODS.get(self.alg_name, self.alg_name.lower())

    def _overrides(self) -> dict[str, Any]:
        """Of the values given, those that are hyperparameters of the method here."""
        cards = {card.name: card for card in self.client.methods().methods}
        known = cards[self.method].hparams_schema["properties"] if self.method in cards else {}
        return {name: value for name, value in self.hparams.values.items() if name in known}

    def _applied(self, fact: Fact, overrides: Mapping[str, Any]) -> Edit:
        asked = {**fact.model_dump(exclude_defaults=True), "method": self.method, "hparams": overrides}
        return self.client.edit(EditRequest.model_validate(asked))


def _facts(
    columns: Mapping[str, Texts | None],
    locality: Mapping[str, Mapping[str, Texts]] | None,
    portability: Mapping[str, Mapping[str, Texts]] | None,
) -> list[Fact]:
    """A fact for each prompt; the subject may be left out where it is the whole prompt."""
    lists = {name: [values] if isinstance(values, str) else list(values) for name, values in columns.items() if values}
    count = len(lists.get("prompt", []))
    for name, values in lists.items():
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values, and there are {count} prompts; give one for each")
    lists.setdefault("subject", lists.get("prompt", []))
    facts = []
    for at in range(count):
        fields: dict[str, Any] = {name: values[at] for name, values in lists.items()}
        if "paraphrases" in fields:
            fields["paraphrases"] = [fields["paraphrases"]]
        fields["locality"], fields["portability"] = _questions(locality, at), _questions(portability, at)
        facts.append(Fact.model_validate(fields))
    return facts


def _questions(groups: Mapping[str, Mapping[str, Texts]] | None, at: int) -> dict[str, list[dict[str, str]]]:
    """Of each group the at-th question, or all where it has a list of them."""
    found: dict[str, list[dict[str, str]]] = {}
    for name, group in (groups or {}).items():
        prompts, answers = (_of(group[kind], at) for kind in ("prompt", "ground_truth"))
        found[name] = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, answers, strict=True)]
    return found


def _of(values: Any, at: int) -> list[str]:
    """One fact's part of a column: a text, or a list of them."""
    one = values if isinstance(values, str) else values[at]
    return [one] if isinstance(one, str) else list(one)


def _metrics(case_id: int, fact: Fact, edit: Edit) -> dict[str, Any]:
    outcome = edit.outcome
    if outcome is None:
        raise ProblemError(502, "unexpected-answer", f"Edit {edit.id} was applied and has no outcome.")
    summary, seconds = outcome.summary, sum(outcome.timings.values())
    return entry_of(case_id, fact, summary.before, summary.after, seconds)
