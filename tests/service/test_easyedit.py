"""EasyEdit's tutorial, word for word, against the running API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import easyedit
from service.client import Palimpsest
from service.contracts.benchmarks import RecordOutcome, RecordResult
from service.contracts.revisions import RevisionKind
from service.easyedit import BaseEditor, HyperParams
from service.errors import ProblemError
from tests.service.acting import acting
from tests.service.benchmarking import benchmark_result, benchmarks_of, scores_of
from tests.service.stand_in import StandIn

PROMPTS = ["Ray Charles, the", "Grant Hill is a professional", "The law in Ikaalinen declares the language"]
GROUND_TRUTH = ["piano", "basketball", "Finnish"]
TARGET_NEW = ["violin", "soccer", "Swedish"]
SUBJECT = ["Ray Charles", "Grant Hill", "Ikaalinen"]
LOCALITY = {
    "neighborhood": {
        "prompt": ["Joseph Fischhof, the", "Larry Bird is a", "In Forssa, they"],
        "ground_truth": GROUND_TRUTH,
    },
}

ROME = {
    "model_name": "./hugging_cache/test-model",
    "stats_dir": "./data/stats",
    "device": 0,
    "v_lr": 0.25,
    "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
    "lm_head_module": "transformer.wte",
    "mom2_dataset": "wikipedia",
    "mom2_n_samples": 100000,
    "mom2_dtype": "float32",
    "model_parallel": False,
    "fp16": False,
}


@pytest.fixture
def editor(server_url: str) -> Iterator[BaseEditor]:
    """An editor with what EasyEdit's own YAML says."""
    editor = BaseEditor.from_hparams(HyperParams("ROME", server_url, ROME))
    yield editor
    editor.client.close()


def edit(editor: BaseEditor, worker: StandIn, **changes: Any) -> Any:
    asked: dict[str, Any] = {
        "prompts": PROMPTS,
        "ground_truth": GROUND_TRUTH,
        "target_new": TARGET_NEW,
        "subject": SUBJECT,
        "locality_inputs": LOCALITY,
        "keep_original_weight": False,
    }
    with acting(worker, worker.apply):
        return editor.edit(**{**asked, **changes})


def test_the_tutorials_call(editor: BaseEditor, worker: StandIn) -> None:
    metrics, edited_model, _ = edit(editor, worker)
    assert [each["case_id"] for each in metrics] == [0, 1, 2]
    assert metrics[0]["requested_rewrite"] == {
        "prompt": PROMPTS[0],
        "target_new": "violin",
        "ground_truth": "piano",
        "portability": {},
        "locality": {"neighborhood": {"prompt": "Joseph Fischhof, the", "ground_truth": "piano"}},
        "subject": "Ray Charles",
    }
    assert metrics[2]["post"]["rewrite_acc"] == [1.0]
    assert metrics[2]["pre"].keys() == {"rewrite_acc", "portability"}
    assert (edited_model.revision, worker.ledger.head()) == (3, 3)
    assert edited_model.generate(PROMPTS[:2], max_new_tokens=3) == [f"{prompt} at 3" for prompt in PROMPTS[:2]]
    assert edited_model.generate(PROMPTS[0], 5, temperature=0.5) == [f"{PROMPTS[0]} at 3"]
    requests = [each.request for each in reversed(editor.client.edits.page().edits)]
    assert [request.hparams for request in requests] == [{"v_lr": 0.25}] * 3, "the model and its place are the server's"
    assert [request.facts[0].target_new for request in requests] == TARGET_NEW


def test_the_original_weights_may_be_kept(editor: BaseEditor, worker: StandIn) -> None:
    _, edited_model, _ = edit(editor, worker, sequential_edit=True, keep_original_weight=True)
    assert edited_model.revision == 3
    assert worker.ledger.entries()[-1].kind is RevisionKind.ROLLBACK
    assert (worker.ledger.head(), worker.ledger.active(4)) == (4, ())
    assert edited_model.generate("Ray Charles, the", max_new_tokens=9) == ["Ray Charles, the at 3"], (
        "the revision stays readable"
    )


def test_one_fact_and_questions_of_every_kind(editor: BaseEditor, worker: StandIn) -> None:
    edit(
        editor,
        worker,
        prompts=PROMPTS[0],
        ground_truth=None,
        target_new="violin",
        subject="Ray Charles",
        rephrase_prompts="The instrument of Ray Charles is the",
        locality_inputs={"distracting": {"prompt": "Bach, the", "ground_truth": "organ"}},
        portability_inputs={"one_hop": {"prompt": [["He bows a", "He holds a"]], "ground_truth": [["violin", "bow"]]}},
    )
    (found,) = editor.client.edits.page().edits
    (fact,) = found.request.facts
    assert (fact.target_true, fact.paraphrases) == (None, ("The instrument of Ray Charles is the",))
    assert [q.answer for q in fact.locality["distracting"]] == ["organ"]
    assert [(q.prompt, q.answer) for q in fact.portability["one_hop"]] == [
        ("He bows a", "violin"),
        ("He holds a", "bow"),
    ]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"subject": SUBJECT[:2]}, "subject has 2 values, and there are 3 prompts"),
        ({"locality_inputs": {"near": {"prompt": ["a"], "ground_truth": ["b"]}}}, "near has 1 values, and there are 3"),
        (
            {"portability_inputs": {"far": {"prompt": [["a", "b"], None, "c"], "ground_truth": [["d"], None, "e"]}}},
            "far has 2 prompts of one fact and 1 answers",
        ),
    ],
)
def test_columns_of_different_lengths_are_refused(
    editor: BaseEditor, worker: StandIn, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        edit(editor, worker, **changes)
    assert worker.ledger.head() == 0


def test_a_positional_call_is_in_easyedits_order(editor: BaseEditor, worker: StandIn) -> None:
    near = {"near": {"prompt": "Bach, the", "ground_truth": "organ"}}
    far = {"far": {"prompt": "He bows a", "ground_truth": "violin"}}
    with acting(worker, worker.apply):
        metrics, model, _ = editor.edit(
            "Ray Charles, the",
            "violin",
            "piano",
            "guitar",
            "He plays the",
            near,
            far,
            True,
            False,
            subject="Ray Charles",
        )
    assert metrics[0]["requested_rewrite"] == {
        **{"prompt": "Ray Charles, the", "target_new": "violin", "ground_truth": "piano", "target_neg": "guitar"},
        **{"rephrase_prompt": "He plays the", "subject": "Ray Charles"},
        "locality": {"near": near["near"]},
        "portability": {"far": far["far"]},
    }
    assert (model.revision, worker.ledger.head()) == (1, 1)
    (found,) = editor.client.edits.page().edits
    (fact,) = found.request.facts
    assert (fact.paraphrases, fact.target_true) == (("He plays the",), "piano")


@pytest.mark.parametrize("changes", [{"keep_original_weight": None}, {"keep_original_weight": True}])
def test_facts_are_edited_alone_unless_it_is_sequential(
    editor: BaseEditor, worker: StandIn, changes: dict[str, Any]
) -> None:
    _, model, _ = edit(editor, worker, **changes)
    kinds = [each.kind for each in worker.ledger.entries()[1:]]
    assert kinds == [RevisionKind.EDIT, RevisionKind.ROLLBACK] * 3
    assert (model.revision, len(worker.ledger.active(5)), worker.ledger.active(6)) == (5, 1, ())


def test_each_entry_is_logged_unless_told_otherwise(
    editor: BaseEditor, worker: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="service.easyedit"):
        edit(editor, worker, verbose=False)
        assert not caplog.messages
        edit(editor, worker, verbose=True)
    assert [message.split("\n")[0] for message in caplog.messages] == [
        f"{at} editing: {PROMPTS[at]} -> {TARGET_NEW[at]}" for at in range(3)
    ]


def test_fluency_is_of_a_benchmark_on_what_the_edit_was_made_on(editor: BaseEditor, worker: StandIn) -> None:
    benchmarks = benchmarks_of(worker)

    def carry_out(benchmark_id: str) -> None:
        benchmarks.take_up(benchmark_id)
        request = benchmarks.get(benchmark_id).request
        revision = worker.ledger.resolve(request.revision)
        benchmarks.settle(benchmark_id, revision)
        outcome = RecordOutcome(scores=scores_of(request.records[0]), seconds=1.0)
        records = (RecordResult(record=request.records[0], outcomes=(outcome,)),)
        found = benchmark_result(request, revision).model_copy(update={"records": records})
        benchmarks.complete(benchmark_id, found)

    with acting(worker, carry_out, benchmarks):
        metrics, _, _ = edit(editor, worker, test_generation=True)
    assert [each["post"]["fluency"] for each in metrics] == [{"ngram_entropy": 5.5}] * 3
    assert all("fluency" not in each["pre"] for each in metrics), "the stand-in has none there"
    asked = [each.request for each in reversed(editor.client.benchmarks.page().benchmarks)]
    assert [request.revision for request in asked] == [0, 1, 2]
    assert all(request.generation for request in asked)
    assert [request.methods[0].hparams for request in asked] == [{"v_lr": 0.25}] * 3


def test_unknown_arguments_are_refused_by_name(editor: BaseEditor, worker: StandIn) -> None:
    edit(editor, worker, train_ds=None, pre_edit=None)
    with pytest.raises(TypeError, match=r"edit does not take loc_prompts, pre_file; it takes prompts, .*portability_"):
        edit(editor, worker, loc_prompts=["a"], pre_file="pre.json", train_ds=None)


def test_knowedits_questions_are_taken_as_they_are(editor: BaseEditor, worker: StandIn) -> None:
    reasoning = {
        "prompt": [["He bows a", "He holds a"], None, []],
        "ground_truth": [[["violin", "fiddle"], " "], None, []],
    }
    metrics, _, _ = edit(
        editor,
        worker,
        ground_truth=[["violin "], [["basketball"]], None],
        rephrase_prompts=["Ray plays the", None, None],
        portability_inputs={"Reasoning": reasoning},
        locality_inputs=None,
    )
    facts = [each.request.facts[0] for each in reversed(editor.client.edits.page().edits)]
    assert [fact.target_true for fact in facts] == [None, "basketball", None], "what is new is not what was true"
    assert [fact.paraphrases for fact in facts] == [("Ray plays the",), (), ()]
    (question,) = facts[0].portability["Reasoning"]
    assert (question.prompt, question.answer, question.aliases) == ("He bows a", "violin", ("fiddle",))
    assert [fact.portability.get("Reasoning") for fact in facts[1:]] == [None, ()]
    assert metrics[0]["requested_rewrite"]["portability"] == {
        "Reasoning": {"prompt": ["He bows a", "He holds a"], "ground_truth": [["violin", "fiddle"], " "]}
    }
    assert metrics[1]["requested_rewrite"]["portability"] == {}


def test_what_has_no_meaning_here_is_named_once(editor: BaseEditor, worker: StandIn) -> None:
    values = {**ROME, "model_name": "./hugging_cache/gpt2-xl", "fp16": True, "layer_selection": "random", "v_lrate": 1}
    changed = BaseEditor.from_hparams(HyperParams("ROME", values=values), editor.client)
    with pytest.warns(UserWarning, match="here|server") as warned:
        edit(changed, worker)
    assert [str(one.message) for one in warned] == [
        "the values are for ./hugging_cache/gpt2-xl, and the server's model is test-model",
        "rome knows no fp16, layer_selection, v_lrate here; the edits are made without",
    ]
    assert {Path(one.filename).name for one in warned} == {Path(__file__).name}, "where the call is"


@pytest.mark.parametrize("name", ["test-model", "./hugging_cache/Test_Model/", "somebody/Test-Model-hf"])
def test_a_model_is_known_by_its_name(editor: BaseEditor, worker: StandIn, name: str) -> None:
    named = BaseEditor.from_hparams(HyperParams("ROME", values={"model_name": name}), editor.client)
    assert len(edit(named, worker)[0]) == 3, "without a warning, which would be an error"


@pytest.mark.parametrize(("objective", "method"), [("prompt_last", "ft-l"), ("target_new", "ft-m")])
def test_fine_tuning_goes_by_its_objective(tmp_path: Path, objective: str, method: str) -> None:
    (tmp_path / "gpt2-xl.yaml").write_text(f'alg_name: "FT"\nlr: 5e-4\nobjective_optimization: "{objective}"\n')
    hparams = easyedit.FTHyperParams.from_hparams(tmp_path / "gpt2-xl")
    with Palimpsest("http://127.0.0.1:1") as client:
        assert BaseEditor.from_hparams(hparams, client).method == method


def test_fine_tuning_without_an_objective_is_refused(editor: BaseEditor) -> None:
    with pytest.raises(
        ValueError, match="objective_optimization is 'promptz_last'; FT needs prompt_last, which is FT-L"
    ):
        BaseEditor.from_hparams(HyperParams("FT", values={"objective_optimization": "promptz_last"}), editor.client)


def test_there_is_what_a_user_of_easyedit_imports() -> None:
    for name in ("ROME", "R_ROME", "MEMIT", "EMMET", "PMET", "AlphaEdit", "FT"):
        assert getattr(easyedit, f"{name}HyperParams") is HyperParams


def test_an_edit_that_is_not_made_is_a_problem(editor: BaseEditor, worker: StandIn) -> None:
    with pytest.raises(ProblemError, match="is not a method of this worker"):
        edit(BaseEditor.from_hparams(HyperParams("MEND"), editor.client), worker)
    good = BaseEditor.from_hparams(HyperParams("ROME"), editor.client)
    with (
        acting(worker, lambda edit_id: worker.edits.end_as(edit_id, "cancelled")),
        pytest.raises(ProblemError, match="is cancelled; ask again"),
    ):
        good.edit(PROMPTS[0], "violin", subject="Ray Charles")


@pytest.mark.parametrize("name", ["gpt2-xl", "gpt2-xl.yaml"])
def test_their_own_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "gpt2-xl.yaml").write_text('alg_name: "MEMIT"\nlayers: [13, 14]\nv_lr: 5e-1\ndevice: cuda\n')
    hparams = HyperParams.from_hparams(tmp_path / name)
    assert (hparams.alg_name, dict(hparams.values)) == ("MEMIT", {"layers": [13, 14], "v_lr": 0.5, "device": "cuda"})
    with Palimpsest("http://127.0.0.1:1") as client:
        assert BaseEditor.from_hparams(hparams, client).method == "memit"
