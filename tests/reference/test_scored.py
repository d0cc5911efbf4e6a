"""The metrics are what kmeng01's and EasyEdit's own evaluation finds on the same weights and records, to 1e-5.

README.md beside this file says what the numbers are and where they are from.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.contracts.scores import AnswerScore, Metrics, PromptScore, Side, Summary
from service.datasets.reading import read_text
from tests.driving import finish
from tests.reference.golden import fingerprint
from tests.reference.scored import LAYER, REAL, SCALE, edited_weight, inputs, model_of, numbers, real_model
from worker.engine.resident import Resident
from worker.evaluation.means import harmonic
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.evaluation.tfidf import Tfidf
from worker.evaluation.words import ngram_entropy
from worker.models.loaded import LoadedModel

NEAR = 1e-5
MODELS = ["gpt2", "llama", pytest.param(REAL, marks=pytest.mark.real)]
SIDES = (("pre", "before"), ("post", "after"))
KINDS = ("rewrite", "paraphrase", "neighborhood")
"""Of prompts, as kmeng01 names them."""


class Subject:
    """A model that both have scored: what they found, and what we find."""

    def __init__(self, name: str, loaded: LoadedModel) -> None:
        self.theirs = numbers(name)
        if fingerprint(loaded) != self.theirs["model_sha256"]:
            raise AssertionError(f"{name} is no longer the model that these numbers are of")
        self.resident = Resident(loaded)
        self.weights = {self.resident.name_of(LAYER): edited_weight(loaded, SCALE[name])}
        self._measured: dict[tuple[str, str], list[Metrics]] = {}

    def measured(self, kind: str, form: str) -> list[Metrics]:
        """Our scores of the records of one kind."""
        if (kind, form) not in self._measured:
            found = read_text(json.dumps(inputs()[kind]), form)
            assert not found.faults
            facts = [record.facts[0] for record in found.records]
            self._measured[kind, form] = finish(measure(self.resident.loaded, facts, self._sides))
        return self._measured[kind, form]

    def _sides(self, rows: int) -> AbstractContextManager[None]:
        return self.resident.view([{}] * rows + [self.weights] * rows)


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param != REAL:
        return Subject(request.param, model_of(request.param))
    data_dir: Path = request.getfixturevalue("default_model")
    return Subject(REAL, real_model(data_dir))


def _near(expected: Any) -> Any:
    return pytest.approx(expected, rel=NEAR, abs=NEAR)


def _flat(groups: Mapping[str, Sequence[float | None]]) -> dict[str, float | None]:
    return {f"{group}[{at}]": value for group, values in groups.items() for at, value in enumerate(values)}


def test_every_prompts_likelihoods_are_kmeng01s(subject: Subject) -> None:
    theirs = subject.theirs["kmeng01"]["counterfact"]["records"]
    for metrics, record in zip(subject.measured("counterfact", "counterfact"), theirs, strict=True):
        for key, attribute in SIDES:
            side: Side = getattr(metrics, attribute)
            assert _likelihoods([side.rewrite]) == _near(_theirs(record[key]["rewrite_prompts_probs"]))
            assert _likelihoods(side.paraphrases) == _near(_theirs(record[key]["paraphrase_prompts_probs"]))
            assert _likelihoods(side.neighborhood) == _near(_theirs(record[key]["neighborhood_prompts_probs"]))


def _likelihoods(scores: Sequence[PromptScore]) -> list[float]:
    return [target.nll for score in scores for target in (score.target_new, score.target_true) if target is not None]


def _theirs(probs: Sequence[dict[str, float]]) -> list[float]:
    return [one[target] for one in probs for target in ("target_new", "target_true")]


def test_counterfacts_scores_are_kmeng01s(subject: Subject) -> None:
    theirs = subject.theirs["kmeng01"]["counterfact"]
    scores = [fact_scores(metrics) for metrics in subject.measured("counterfact", "counterfact")]
    means = summaries(scores)
    for key, attribute in SIDES:
        found = [getattr(score, attribute).summary for score in scores]
        for ours, kind in zip(("ES", "PS", "NS"), KINDS, strict=True):
            assert [getattr(one, ours) for one in found] == _near(theirs["cases"][f"{key}_{kind}_success"])
            assert [getattr(one, f"{ours}_diff") for one in found] == _near(theirs["cases"][f"{key}_{kind}_diff"])
        mean: Summary = getattr(means, attribute)
        assert mean.S is not None
        assert pytest.approx(theirs["score"][f"{key}_score"], abs=0.00501) == 100 * mean.S, "they print two decimals"


def test_counterfacts_accuracies_are_kmeng01s(subject: Subject) -> None:
    theirs = subject.theirs["memit"]["counterfact"]
    measured = subject.measured("counterfact", "counterfact")
    for key, attribute in SIDES:
        sides: list[Side] = [getattr(metrics, attribute) for metrics in measured]
        for ours, kind in zip(("EA", "PA", "NA"), KINDS, strict=True):
            assert [getattr(side.summary, ours) for side in sides] == _near(theirs["cases"][f"{key}_{kind}_acc"])
        correct = [record[key]["paraphrase_prompts_correct"] for record in theirs["records"]]
        assert [[score.target_new.accuracy == 1 for score in side.paraphrases] for side in sides] == correct


def test_zsres_scores_are_kmeng01s(subject: Subject) -> None:
    theirs, score = (subject.theirs["kmeng01"]["zsre"][part] for part in ("cases", "score"))
    found = subject.measured("zsre", "zsre-answers")
    means = summaries([fact_scores(metrics) for metrics in found])
    for key, attribute in SIDES:
        summaries_of: list[Summary] = [getattr(metrics, attribute).summary for metrics in found]
        assert [one.rewrite_acc for one in summaries_of] == _near(theirs[f"{key}_rewrite_acc"])
        assert [one.rephrase_acc for one in summaries_of] == _near(theirs[f"{key}_paraphrase_acc"])
        specificity = [one.locality["neighborhood_correct"] for one in summaries_of]
        assert specificity == _near(theirs[f"{key}_neighborhood_acc"])
        mean: Summary = getattr(means, attribute)
        whole = harmonic(mean.rewrite_acc, mean.rephrase_acc, mean.locality["neighborhood_correct"])
        assert whole is not None
        assert pytest.approx(score[f"{key}_score"], abs=0.00501) == 100 * whole, "they print two decimals"


@pytest.mark.parametrize("kind", ["zsre", "knowedit"])
def test_scores_are_easyedits(subject: Subject, kind: str) -> None:
    theirs = subject.theirs["easyedit"][kind]
    measured = subject.measured(kind, kind)
    for metrics, record in zip(measured, theirs["metrics"], strict=True):
        for key, attribute in SIDES:
            side: Side = getattr(metrics, attribute)
            assert [side.summary.rewrite_acc] == _near(record[key]["rewrite_acc"])
            assert [side.summary.rephrase_acc] == _near(record[key]["rephrase_acc"])
            assert _flat(_accuracies(side)) == _near(_flat(record[key]["portability"]))
        locality = record["post"]["locality"]
        kept = {group: values for group, values in locality.items() if group.endswith("_acc")}
        assert _flat(_kept(metrics.after)) == _near(_flat(kept))
    means = summaries([fact_scores(metrics) for metrics in measured])
    for key, attribute in SIDES:
        mean: Summary = getattr(means, attribute)
        expected = theirs["mean"][key]
        assert mean.rewrite_acc == _near(expected["rewrite_acc"])
        assert mean.rephrase_acc == _near(expected["rephrase_acc"])
        assert mean.portability == _near(_lower(expected["portability"]))
    assert {name: means.after.locality[name] for name in _lower(theirs["mean"]["post"]["locality"])} == _near(
        _lower(theirs["mean"]["post"]["locality"])
    )


def test_texts_have_their_entropies_and_likeness() -> None:
    theirs = numbers("gpt2")["kmeng01"]["texts"]
    texts, references = inputs()["texts"], inputs()["references"]
    assert list(map(ngram_entropy, texts)) == _near(theirs["ngram_entropy"])
    assert list(map(ngram_entropy, texts)) == _near(numbers("gpt2")["easyedit"]["texts"]["fluency"])
    whole, vectors = " ".join(references), Tfidf(references)
    found = [vectors.similarity(text, whole) for text in (*texts[:3], " ".join(texts))]
    assert found == pytest.approx(theirs["reference_score"], abs=1e-9)


def test_what_is_compared_varies(subject: Subject) -> None:
    """A score that is 0 everywhere, or 1, or that no edit moves, would agree with code that computes nothing."""
    lists = _compared(subject.theirs)
    alike = [name for name, sides in lists.items() if any(set(side) <= {0.0} or set(side) <= {1.0} for side in sides)]
    assert not alike
    assert not [name for name, sides in lists.items() if len(sides) > 1 and sides[0] == sides[1]]


def _compared(theirs: Mapping[str, Any]) -> dict[str, list[list[float]]]:
    """Every accuracy that the tests above compare, by whose it is, over all records: before and after."""
    found: dict[str, list[list[float]]] = {}
    kmeng01 = {
        "counterfact success": (theirs["kmeng01"]["counterfact"]["cases"], "success"),
        "counterfact acc": (theirs["memit"]["counterfact"]["cases"], "acc"),
        "zsre acc": (theirs["kmeng01"]["zsre"]["cases"], "acc"),
    }
    for name, (cases, ending) in kmeng01.items():
        found |= {f"{name} {kind}": [cases[f"{key}_{kind}_{ending}"] for key, _ in SIDES] for kind in KINDS}
    for name in ("zsre", "knowedit"):
        metrics = theirs["easyedit"][name]["metrics"]
        for score in ("rewrite_acc", "rephrase_acc"):
            found[f"{name} {score}"] = [[one for record in metrics for one in record[key][score]] for key, _ in SIDES]
        found[f"{name} portability"] = [_all(record[key]["portability"] for record in metrics) for key, _ in SIDES]
        found[f"{name} locality"] = [_all(record["post"]["locality"] for record in metrics)]
    return found


def _all(groups: Iterable[Mapping[str, Sequence[float]]]) -> list[float]:
    return [one for group in groups for name, values in group.items() if name.endswith("_acc") for one in values]


def _accuracies(side: Side) -> dict[str, Any]:
    return {
        f"{_names()[group]}_acc": [one.answer.accuracy for one in scores] for group, scores in side.portability.items()
    }


def _kept(side: Side) -> dict[str, list[float | None]]:
    def kept(scores: Sequence[AnswerScore]) -> list[float | None]:
        return [one.same for one in scores]

    return {f"{_names()[group]}_acc": kept(scores) for group, scores in side.locality.items()}


def _names() -> dict[str, str]:
    """Groups as EasyEdit writes them."""
    theirs = ("Relation_Specificity", "Forgetfulness", "Reasoning", "Subject_Aliasing", "Logical_Generalization")
    return {**{name.lower(): name for name in theirs}, "neighborhood": "neighborhood", "one_hop": "one_hop"}


def _lower(groups: dict[str, float]) -> dict[str, float]:
    return {name.lower(): value for name, value in groups.items()}
