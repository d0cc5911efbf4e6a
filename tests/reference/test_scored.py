"""The metrics are what kmeng01's and EasyEdit's own evaluation finds on the same weights and records, to 1e-5.

README.md beside this file says what the numbers are and where they are from.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import pytest

from service.contracts.scores import AnswerScore, Metrics, PromptScore, Side, Summary
from service.datasets.reading import read_text
from tests.driving import finish
from tests.reference.golden import fingerprint
from tests.reference.scored import KEPT, LAYER, REAL, SCALE, edited_weight, inputs, model_of, numbers
from worker.engine.resident import Resident
from worker.evaluation.metrics import fact_scores, measure, summaries
from worker.evaluation.tfidf import Tfidf
from worker.evaluation.words import ngram_entropy
from worker.models.loading import DEFAULT_MODEL, DEFAULT_WHEEL

NEAR = 1e-5
HERE = find_spec(DEFAULT_WHEEL) is not None and (KEPT / "models" / DEFAULT_MODEL).is_dir()
MODELS = [
    "gpt2",
    "llama",
    pytest.param(
        REAL,
        marks=[
            pytest.mark.real,
            pytest.mark.skipif(not HERE, reason=f"{DEFAULT_MODEL} is not in the data directory: make demo"),
        ],
    ),
]
SIDES = (("pre", "before"), ("post", "after"))


class Subject:
    """A model that both have scored: what they found, and what we find."""

    def __init__(self, name: str) -> None:
        loaded = model_of(name)
        self.theirs = numbers(name)
        if fingerprint(loaded) != self.theirs["model_sha256"]:
            raise AssertionError(f"{name} is no longer the model that these numbers are of")
        self.resident = Resident(loaded)
        self.weights = {self.resident.name_of(LAYER): edited_weight(loaded, SCALE[name])}

    def measured(self, kind: str, form: str) -> list[Metrics]:
        """Our scores of the records of one kind."""
        found = read_text(json.dumps(inputs()[kind]), form)
        assert not found.faults
        facts = [record.facts[0] for record in found.records]
        return finish(measure(self.resident.loaded, facts, self._sides))

    def _sides(self, rows: int) -> AbstractContextManager[None]:
        return self.resident.view([{}] * rows + [self.weights] * rows)


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


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
    kinds = (("ES", "rewrite"), ("PS", "paraphrase"), ("NS", "neighborhood"))
    for key, attribute in SIDES:
        found = [getattr(score, attribute).summary for score in scores]
        for ours, kind in kinds:
            assert [getattr(one, ours) for one in found] == _near(theirs["cases"][f"{key}_{kind}_success"])
            assert [getattr(one, f"{ours}_diff") for one in found] == _near(theirs["cases"][f"{key}_{kind}_diff"])
        mean: Summary = getattr(means, attribute)
        assert mean.S is not None
        assert pytest.approx(theirs["score"][f"{key}_score"], abs=0.00501) == 100 * mean.S, "they print two decimals"


def test_zsres_scores_are_kmeng01s(subject: Subject) -> None:
    theirs = subject.theirs["kmeng01"]["zsre"]["cases"]
    found = subject.measured("zsre", "zsre-answers")
    for key, attribute in SIDES:
        summaries_of: list[Summary] = [getattr(metrics, attribute).summary for metrics in found]
        assert [one.rewrite_acc for one in summaries_of] == _near(theirs[f"{key}_rewrite_acc"])
        assert [one.rephrase_acc for one in summaries_of] == _near(theirs[f"{key}_paraphrase_acc"])
        specificity = [one.locality["neighborhood_correct"] for one in summaries_of]
        assert specificity == _near(theirs[f"{key}_neighborhood_acc"])


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
    whole, vectors = " ".join(references), Tfidf(references)
    found = [vectors.similarity(text, whole) for text in (*texts[:3], " ".join(texts))]
    assert found == pytest.approx(theirs["reference_score"], abs=1e-9)


def test_what_was_compared_varies(subject: Subject) -> None:
    """Scores that were the same everywhere would show little."""
    for kind in ("counterfact", "knowedit"):
        sides = subject.measured(kind, kind)
        assert any(metrics.before.summary != metrics.after.summary for metrics in sides), kind
    kept = [one.same for metrics in sides for scores in metrics.after.locality.values() for one in scores]
    assert len(set(kept)) > 1


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
