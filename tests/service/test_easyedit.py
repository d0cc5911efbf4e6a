"""EasyEdit's tutorial, word for word, against the running API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import Palimpsest
from service.contracts.revisions import RevisionKind
from service.easyedit import BaseEditor, HyperParams
from service.errors import ProblemError
from tests.service.acting import acting
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


@pytest.fixture
def editor(server_url: str) -> Iterator[BaseEditor]:
    """An editor with what EasyEdit's own YAML would say."""
    values = {"model_name": "./hugging_cache/gpt2-xl", "device": 0, "v_lr": 0.25, "stats_dir": "./data/stats"}
    editor = BaseEditor.from_hparams(HyperParams("ROME", server_url, values))
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
        "locality": {"neighborhood": {"prompt": ["Joseph Fischhof, the"], "ground_truth": ["piano"]}},
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
    _, edited_model, _ = edit(editor, worker, keep_original_weight=True)
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


def test_columns_of_different_lengths_are_refused(editor: BaseEditor, worker: StandIn) -> None:
    with pytest.raises(ValueError, match="subject has 2 values, and there are 3 prompts"):
        edit(editor, worker, subject=SUBJECT[:2])
    assert worker.ledger.head() == 0


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
