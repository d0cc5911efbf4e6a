"""EasyEdit's call: columns of prompts, targets and questions become its requests, and these become facts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.contracts.edits import Fact
from service.datasets.building import answered, differing, leaves

Texts = str | Sequence[Any]
"""A text for one fact, or a list of one a fact."""

Inputs = Mapping[str, Mapping[str, Texts | None]]
"""Questions by group, `prompt` and `ground_truth`: of each fact a text, a list of them, or None."""


def requests_of(columns: Mapping[str, Texts | None], groups: Mapping[str, Inputs | None]) -> list[dict[str, Any]]:
    """One a prompt, as EasyEdit prepares them: with the groups that ask something of that fact."""
    lists = {name: [values] if isinstance(values, str) else list(values) for name, values in columns.items() if values}
    count = len(lists.get("prompt", []))
    for name, values in lists.items():
        _require(name, values, count)
    asked = {kind: list(_questions_by_fact(inputs or {}, count)) for kind, inputs in groups.items()}
    return [
        {
            "ground_truth": None,
            **{name: values[at] for name, values in lists.items()},
            **{kind: questions[at] for kind, questions in asked.items()},
        }
        for at in range(count)
    ]


def _questions_by_fact(inputs: Inputs, count: int) -> Iterator[dict[str, Any]]:
    """Of each fact its groups. A fact with None is not asked."""
    columns: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {}
    for name, group in inputs.items():
        prompts, answers = group["prompt"], group["ground_truth"]
        columns[name] = ([prompts], [answers]) if isinstance(prompts, str) else (prompts or (), answers or ())
        for values in columns[name]:
            _require(name, values, count)
    for at in range(count):
        yield {
            name: {"prompt": prompts[at], "ground_truth": answers[at]}
            for name, (prompts, answers) in columns.items()
            if prompts[at] is not None
        }


def _require(name: str, values: Sequence[Any], count: int) -> None:
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values, and there are {count} prompts; give one for each")


def fact_of(request: Mapping[str, Any]) -> Fact:
    """The subject may be left out where it is the whole prompt."""
    target_new = request.get("target_new")
    fields = {
        "prompt": request["prompt"],
        "subject": request.get("subject", request["prompt"]),
        "target_new": target_new,
        "target_true": differing(next(leaves(request["ground_truth"]), None), str(target_new)),
        "paraphrases": list(leaves(request.get("rephrase_prompt"))),
    }
    for kind in ("locality", "portability"):
        fields[kind] = {name: list(_questions(name, group)) for name, group in request[kind].items()}
    return Fact.model_validate(fields)


def _questions(name: str, group: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A fact's questions of one group that have an answer."""
    prompts, answers = group["prompt"], group["ground_truth"]
    if isinstance(prompts, str):
        prompts, answers = [prompts], [answers]
    if len(prompts) != len(answers):
        raise ValueError(f"{name} has {len(prompts)} prompts of one fact and {len(answers)} answers; give one for each")
    found = (answered(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True))
    return (question for question in found if question is not None)
