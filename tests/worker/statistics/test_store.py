"""The store: each layer's statistics computed once, all missing ones in one pass, and factored once."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.driving import finish, finish_noting
from tests.families import tiny_model
from tests.worker.engine.kit import random_delta
from worker.editing.covariance import Covariance
from worker.editing.hparams import CovarianceHparams
from worker.errors import EditError
from worker.models.loaded import LoadedModel
from worker.statistics import hub, moments, windows
from worker.statistics.store import StatisticsStore

SELF = CovarianceHparams(mom2_n_tokens=600)
CORPUS = CovarianceHparams(mom2_n_tokens=600, mom2_dataset="corpus")
WIKIPEDIA = CovarianceHparams(mom2_dataset="wikipedia")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 12)


@pytest.fixture
def loaded() -> LoadedModel:
    return tiny_model("llama")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The layers of every batch that runs."""
    ran: list[list[int]] = []
    plain = moments._keys

    def keys(loaded: LoadedModel, ids: Any, layers: list[int]) -> Any:
        ran.append(layers)
        return plain(loaded, ids, layers)

    monkeypatch.setattr(moments, "_keys", keys)
    return ran


def _store(loaded: LoadedModel, folder: Path, checksum: str = "base", **options: Any) -> StatisticsStore:
    return StatisticsStore(loaded, checksum, folder / "statistics", **options)


def _corpus(folder: Path, lines: int = 60) -> Path:
    path = folder / "corpus.txt"
    path.write_text("The Eiffel Tower is in Paris. Lionel Messi plays football.\n" * lines)
    return path


def _files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "statistics").glob("*.npz")}


def test_all_layers_are_taken_in_one_pass(loaded: LoadedModel, tmp_path: Path, passes: list[list[int]]) -> None:
    found, steps = finish_noting(_store(loaded, tmp_path).covariances([2, 0], SELF))
    assert list(found) == [2, 0]
    assert passes == [[2, 0]] * 7, "7 batches of 8 x 12 tokens"
    assert {covariance.count for covariance in found.values()} == {600}
    done = [step.step for step in steps if step.steps == 600]
    assert done == sorted(done)
    assert set(done) == {0, 96, 192, 288, 384, 480, 576, 600}
    assert {step.phase for step in steps} == {"statistics"}
    for layer in (0, 2):
        alone = finish(_store(loaded, tmp_path / "alone").covariances([layer], SELF))[layer]
        assert torch.equal(alone.matrix, found[layer].matrix), "a layer's numbers do not depend on its company"


def test_what_is_there_is_not_computed_again(loaded: LoadedModel, tmp_path: Path, passes: list[list[int]]) -> None:
    store = _store(loaded, tmp_path)
    first = finish(store.covariances([1], SELF))
    passes.clear()
    more = finish(store.covariances([1, 2], SELF))
    assert {tuple(layers) for layers in passes} == {(2,)}
    passes.clear()
    again, steps = finish_noting(store.covariances([2, 1], SELF))
    assert steps == []
    assert passes == []
    assert again[1] is more[1] is first[1], "with whatever was derived from it"
    assert again[2] is more[2]
    other = finish(_store(loaded, tmp_path).covariances([1, 2], SELF))
    assert passes == []
    for layer in (1, 2):
        assert torch.equal(other[layer].matrix, again[layer].matrix)


def test_statistics_are_what_they_depend_on(loaded: LoadedModel, tmp_path: Path) -> None:
    """A change of the weights, the layer, the text, the way it is cut or the tokens is another file."""
    corpus = _corpus(tmp_path)

    def compute(checksum: str = "base", layer: int = 1, hparams: CovarianceHparams = SELF) -> int:
        finish(_store(loaded, tmp_path, checksum, corpus=corpus).prepare([layer], hparams))
        return len(_files(tmp_path))

    assert compute() == compute() == 1
    assert compute(checksum="other") == 2
    assert compute(layer=2) == 3
    assert compute(hparams=SELF.model_copy(update={"mom2_n_tokens": 601})) == 4
    assert compute(hparams=CORPUS) == compute(hparams=CORPUS) == 5
    _corpus(tmp_path, 61)
    assert compute(hparams=CORPUS) == 6
    windows.WINDOW = 16  # the fixture puts it back
    assert compute() == 7
    assert compute(hparams=CORPUS) == 8
    assert all(name.startswith("model.layers.") and "_float32_mom2_60" in name for name in _files(tmp_path))


def test_a_corpus_that_changes_while_the_worker_runs_is_another(loaded: LoadedModel, tmp_path: Path) -> None:
    store = _store(loaded, tmp_path, corpus=_corpus(tmp_path))
    first = finish(store.prepare([1], CORPUS))
    _corpus(tmp_path, 70)
    assert finish(store.prepare([1], CORPUS)) != first


def test_the_default_size_is_a_multiple_of_the_dimension(loaded: LoadedModel, tmp_path: Path) -> None:
    class ManyHparams(CovarianceHparams):
        tokens_per_dimension = 12

    store = _store(loaded, tmp_path)
    assert finish(store.covariances([0], CovarianceHparams()))[0].count == 10 * 64
    assert finish(store.covariances([0], ManyHparams()))[0].count == 12 * 64


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_dimension_is_that_of_the_keys(family: str, tmp_path: Path) -> None:
    loaded = tiny_model(family)
    size = 128 if family == "gpt2" else 64
    found = finish(_store(loaded, tmp_path).covariances([1], CovarianceHparams()))
    assert found[1].size == size
    assert found[1].count == 10 * size


def test_keys_that_are_not_finite_are_a_problem(loaded: LoadedModel, tmp_path: Path) -> None:
    loaded.mlp_out(0).weight.data[:] = torch.inf
    with pytest.raises(EditError, match="not finite") as raised:
        finish(_store(loaded, tmp_path, corpus=_corpus(tmp_path)).covariances([1], CORPUS))
    assert raised.value.name == "statistics-not-finite"
    assert _files(tmp_path) == set()


def test_what_cannot_be_asked_for(loaded: LoadedModel, tmp_path: Path) -> None:
    store = _store(loaded, tmp_path)
    with pytest.raises(EditError, match=r"hparams\.layers: the model has no layer 4"):
        finish(store.covariances([1, 4], SELF))
    with pytest.raises(EditError, match=r"started without PALIMPSEST_CORPUS; use 'self'"):
        finish(store.covariances([1], CORPUS))


class TestMemory:
    """Covariances stay in memory with their factorizations, up to a number of bytes."""

    def test_a_factorization_is_kept(self, loaded: LoadedModel, tmp_path: Path) -> None:
        store = _store(loaded, tmp_path)
        factor = finish(store.covariances([1], SELF))[1].factor
        finish(store.covariances([2], SELF))
        assert finish(store.covariances([1], SELF))[1].factor is factor

    def test_what_was_not_asked_for_longest_goes(self, loaded: LoadedModel, tmp_path: Path) -> None:
        size = 64 * 64 * 4
        store = _store(loaded, tmp_path, memory=3 * size)

        def ask(*layers: int) -> list["weakref.ref[Covariance]"]:
            return [weakref.ref(covariance) for covariance in finish(store.covariances(layers, SELF)).values()]

        zero, one, two = (*ask(0), *ask(1), *ask(2))
        ask(0)
        ask(3)
        gc.collect()
        assert [ref() is not None for ref in (zero, one, two)] == [True, False, True]

    def test_what_is_derived_counts(self, loaded: LoadedModel, tmp_path: Path) -> None:
        store = _store(loaded, tmp_path, memory=4 * 64 * 64 * 4)
        first = finish(store.covariances([0], SELF))[0]
        first.null_space(0.1)
        ref = weakref.ref(first)
        del first
        finish(store.covariances([1], SELF))
        gc.collect()
        assert ref() is None

    def test_what_was_asked_for_together_stays(self, loaded: LoadedModel, tmp_path: Path) -> None:
        store = _store(loaded, tmp_path, memory=0)
        first = finish(store.covariances([0, 1, 2], SELF))
        again, steps = finish_noting(store.covariances([0, 1, 2], SELF))
        assert steps == []
        assert all(again[layer] is first[layer] for layer in first)


class TestPublished:
    """Files of kmeng01 and EasyEdit, searched before anything is computed."""

    def _place(self, folder: Path, documents: int = 100000, size: int = 64, count: int = 5000, layer: int = 1) -> Path:
        name = f"model.layers.{layer}.mlp.down_proj_float32_mom2_{documents}.npz"
        path = folder / "tiny-llama" / "wikipedia_stats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        published: dict[str, Any] = {"mom2.count": count, "mom2.mom2": np.eye(size, dtype=np.float32) * documents}
        np.savez(path, **published)
        return path

    @pytest.fixture(autouse=True)
    def _no_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(_: str) -> Iterator[Any]:
            raise ConnectionError

        monkeypatch.setattr(hub, "_stream", unreachable)

    def test_they_serve(self, loaded: LoadedModel, tmp_path: Path, passes: list[list[int]]) -> None:
        self._place(tmp_path, 50)
        self._place(tmp_path)
        found, _ = finish_noting(_store(loaded, tmp_path, published=tmp_path).covariances([1], WIKIPEDIA))
        assert passes == []
        assert torch.equal(found[1].matrix, torch.eye(64) * 20)
        assert found[1].count == 5000

    def test_other_text_is_not_theirs(self, loaded: LoadedModel, tmp_path: Path, passes: list[list[int]]) -> None:
        self._place(tmp_path)
        finish(_store(loaded, tmp_path, published=tmp_path).covariances([1], SELF))
        assert passes

    def test_one_of_too_few_tokens_does_not_serve(self, loaded: LoadedModel, tmp_path: Path) -> None:
        self._place(tmp_path, count=599)
        few, enough = (WIKIPEDIA.model_copy(update={"mom2_n_tokens": tokens}) for tokens in (600, 599))
        store = _store(loaded, tmp_path, published=tmp_path)
        with pytest.raises(EditError, match="cannot be streamed"):
            finish(store.covariances([1], few))
        assert finish(store.covariances([1], enough))[1].count == 599

    def test_one_of_the_wrong_shape_is_refused(self, loaded: LoadedModel, tmp_path: Path) -> None:
        path = self._place(tmp_path, size=65)
        with pytest.raises(EditError, match=rf"the file {path.name} has the shape \(65, 65\)") as raised:
            finish(_store(loaded, tmp_path, published=tmp_path).covariances([1], WIKIPEDIA))
        assert str(tmp_path) not in str(raised.value)

    def test_a_layer_without_one_is_computed(
        self, loaded: LoadedModel, tmp_path: Path, passes: list[list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._place(tmp_path)
        monkeypatch.setattr(hub, "_stream", lambda _: [{"text": "Lionel Messi plays football. " * 30}] * 50)
        found = finish(_store(loaded, tmp_path, published=tmp_path).covariances([1, 2], WIKIPEDIA))
        assert found[1].count == 5000
        assert found[2].count == 640
        assert {tuple(layers) for layers in passes} == {(2,)}

    def test_own_files_can_be_placed_among_them(self, loaded: LoadedModel, tmp_path: Path) -> None:
        own = finish(_store(loaded, tmp_path).covariances([1], SELF))[1]
        (name,) = _files(tmp_path)
        target = self._place(tmp_path)
        (tmp_path / "statistics" / name).replace(target)
        theirs = finish(_store(loaded, tmp_path, published=tmp_path).covariances([1], WIKIPEDIA))[1]
        assert torch.equal(theirs.matrix, own.matrix)


def test_statistics_come_from_the_weights_in_force(loaded: LoadedModel, tmp_path: Path) -> None:
    """The engine runs the store on the base; what another weight gives is something else."""
    corpus = _corpus(tmp_path)
    base = finish(_store(loaded, tmp_path / "a", corpus=corpus).covariances([2], CORPUS))[2].matrix
    loaded.mlp_out(0).weight.data += random_delta(loaded, 0, scale=1.0).layers[0].dense()
    other = finish(_store(loaded, tmp_path / "b", corpus=corpus).covariances([2], CORPUS))[2].matrix
    assert not torch.equal(base, other)
