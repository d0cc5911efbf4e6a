"""EasyEdit's way to edit, on a server: BaseEditor.from_hparams(hparams).edit(...) gives metrics and an edited model."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, Self

from service.client import Palimpsest
from service.contracts.edits import Edit, EditRequest, Fact
from service.datasets.easyedit import Inputs, Texts, fact_of, requests_of
from service.errors import ProblemError
from service.reporting.easyedit import UNKNOWN, Fluency, entry_of, fluency_of

METHODS = {
    "ROME": "rome",
    "R-ROME": "r-rome",
    "MEMIT": "memit",
    "EMMET": "emmet",
    "PMET": "pmet",
    "AlphaEdit": "alphaedit",
}
"""What EasyEdit calls the methods; any other name but FT is taken as this project's own."""

FINE_TUNING = {"prompt_last": "ft-l", "target_new": "ft-m"}
"""What EasyEdit's FT is, by its objective_optimization."""

THE_SERVERS = frozenset(
    {
        *("model_name", "device", "model_parallel"),
        *("stats_dir", "P_loc", "mom2_dataset", "mom2_n_samples", "mom2_dtype"),
    }
)
"""Values that the server is not asked to heed: it has a model, which is somewhere, and statistics."""

WITHOUT_EFFECT = {
    "fp16": False,
    "batch_size": 1,
    "layer_selection": "all",
    "update_norm_lambda": 0,
    "original_implementation": False,
    "enable_random_prefix_keys": True,
    "enable_prompt_keys": False,
}
"""Values that say what is done here anyway."""

UNREAD = frozenset({"objective_optimization", "max_length", "mom2_update_weight"})
"""What EasyEdit's methods do not read where those of this project do not know it, or what names the method."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HyperParams:
    """Hyperparameters as EasyEdit reads them; `alg_name` names the method.

    values: overrides of those shipped for the server's model. The model, its device and its statistics are the
    server's, whatever is said of them here.
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

    @property
    def method(self) -> str:
        """This project's name of the method."""
        if self.alg_name != "FT":
            return METHODS.get(self.alg_name, self.alg_name.lower())
        objective = self.values.get("objective_optimization")
        if objective not in FINE_TUNING:
            raise ValueError(
                f"objective_optimization is {objective!r}; FT needs prompt_last, which is FT-L, or target_new, FT-M"
            )
        return FINE_TUNING[objective]


FTHyperParams = ROMEHyperParams = R_ROMEHyperParams = MEMITHyperParams = HyperParams
EMMETHyperParams = PMETHyperParams = AlphaEditHyperParams = HyperParams
"""EasyEdit has a class for each method; here they are one, and the file says whose it is."""


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

    def generate(self, prompts: str | Sequence[str], max_new_tokens: int = 40, **options: Any) -> list[str]:
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
        self.method = hparams.method

    @classmethod
    def from_hparams(cls, hparams: HyperParams, client: Palimpsest | None = None) -> Self:
        """An editor of the server that the hyperparameters name, or of another one."""
        return cls(hparams, client or Palimpsest(hparams.server))

    def edit(  # noqa: PLR0913, PLR0917 - EasyEdit's own arguments, in its order
        self,
        prompts: Texts,
        target_new: Texts,
        ground_truth: Texts | None = None,
        target_neg: Texts | None = None,
        rephrase_prompts: Texts | None = None,
        locality_inputs: Inputs | None = None,
        portability_inputs: Inputs | None = None,
        sequential_edit: bool = False,
        verbose: bool = True,
        *,
        subject: Texts | None = None,
        keep_original_weight: bool | None = None,
        test_generation: bool = False,
        **others: Any,
    ) -> tuple[list[dict[str, Any]], EditedModel, None]:
        """Edit the facts; metrics are of each fact after its own edit, and `pre` is of the base.

        sequential_edit: each fact is edited on those before it, and all stay. Without it each is edited alone, and the
        head goes back after each to where it was; the edited model is the last one, and can be asked all the same.
        keep_original_weight: as it was in EasyEdit's first versions: False says the same as sequential_edit, and True
        that the head goes back in the end whatever happens. test_generation: score fluency too, by a benchmark that
        computes each edit once more; in `pre` it is of what the edit was made on. verbose: log each entry. Whatever
        else has a value is refused.

        The third value returned stands where EasyEdit has the weights that it could put back. An edit that the server
        cannot make is raised as JobFailedError; those before it stay, where they are to.
        """
        _refuse(others)
        requests = requests_of(
            {
                **{"prompt": prompts, "target_new": target_new, "ground_truth": ground_truth},
                **{"target_neg": target_neg, "subject": subject, "rephrase_prompt": rephrase_prompts},
            },
            {"portability": portability_inputs, "locality": locality_inputs},
        )
        facts = [fact_of(request) for request in requests]
        how = {"method": self.method, "hparams": self._overrides()}
        sequential = sequential_edit or keep_original_weight is False
        before = self.client.model().revision
        metrics, revision = [], before
        try:
            for case_id, (request, fact) in enumerate(zip(requests, facts, strict=True)):
                if revision != before and not sequential:
                    self.client.rollback(before)
                edit = self.client.edit(EditRequest.model_validate({**fact.model_dump(exclude_defaults=True), **how}))
                revision = edit.revision or revision
                fluency = self._fluency(fact, revision, how) if test_generation else UNKNOWN
                metrics.append(_metrics(case_id, request, edit, fluency))
                if verbose:
                    log.info("%d editing: %s -> %s\n%s", case_id, fact.prompt, fact.target_new, metrics[-1])
        finally:
            if revision != before and (keep_original_weight or not sequential):
                self.client.rollback(before)
        return metrics, EditedModel(self.client, revision), None

    def _overrides(self) -> dict[str, Any]:
        """Of the values given, those that are hyperparameters of the method here; a warning names what is lost."""
        found, values = self.client.methods(), self.hparams.values
        cards = {card.name: card for card in found.methods}
        known = cards[self.method].hparams_schema["properties"] if self.method in cards else values
        theirs = str(values.get("model_name", found.model))
        if _plain(theirs) != _plain(found.model):
            warnings.warn(f"the values are for {theirs}, and the server's model is {found.model}", stacklevel=3)
        asked = {name: value for name, value in values.items() if not _is_the_servers(name)}
        lost = [name for name in asked if name not in known and name not in UNREAD]
        lost = [name for name in lost if name not in WITHOUT_EFFECT or asked[name] != WITHOUT_EFFECT[name]]
        if lost:
            warnings.warn(f"{self.method} knows no {', '.join(lost)} here; the edits are made without", stacklevel=3)
        return {name: value for name, value in asked.items() if name in known}

    def _fluency(self, fact: Fact, revision: int, how: Mapping[str, Any]) -> Fluency:
        """Before and after an edit. Benchmarks alone score what is said freely, and keep nothing of it."""
        records = [{"case_id": 0, "facts": [fact.model_dump(exclude_defaults=True)]}]
        found = self.client.bench(records=records, methods=[how], revision=revision - 1, generation=True)
        scores = found.result.records[0].outcomes[0].scores if found.result and found.result.records else None
        return UNKNOWN if scores is None else fluency_of(scores)


def _refuse(others: Mapping[str, Any]) -> None:
    """EasyEdit's arguments of other methods may be there, as None."""
    unknown = ", ".join(name for name, value in others.items() if value is not None)
    if unknown:
        known = ", ".join(name for name in signature(BaseEditor.edit).parameters if name not in ("self", "others"))
        raise TypeError(f"edit does not take {unknown}; it takes {known}")


def _is_the_servers(name: str) -> bool:
    """Modules are where the model's family has them."""
    return name in THE_SERVERS or re.search(r"_module(_tmps?)?$", name) is not None


def _plain(model: str) -> str:
    """A model's name however it is written: ./hugging_cache/llama-2-7b, meta-llama/Llama-2-7b-hf."""
    return re.sub("[^a-z0-9]", "", model.rstrip("/").rsplit("/", 1)[-1].lower()).removesuffix("hf")


def _metrics(case_id: int, request: Mapping[str, Any], edit: Edit, fluency: Fluency) -> dict[str, Any]:
    outcome = edit.outcome
    if outcome is None:
        raise ProblemError(502, "unexpected-answer", f"Edit {edit.id} was applied and has no outcome.")
    return entry_of(case_id, request, outcome.facts[0], fluency, sum(outcome.timings.values()))
