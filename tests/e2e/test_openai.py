"""OpenAI's own client against a real worker: revisions by name, greedy and sampled, whole and streamed, and closed."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from service.contracts.edits import EditStatus
from tests.conftest import _free_port
from tests.e2e.kit import FACT, MODEL, Place, open_place, until
from worker.lane import GROUP

PROMPT: str = FACT["prompt"]
STRONG = {"v_num_grad_steps": 200, "v_lr": 0.05, "context_templates": [""]}
GREEDY: dict[str, Any] = {"prompt": PROMPT, "temperature": 0, "max_tokens": 8}
TEMPLATE = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }} {% endfor %}assistant:"
HELLO: list[Any] = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": PROMPT}]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with open_place(tmp_path_factory.mktemp("openai"), _free_port) as opened:
        add_template(opened.root / MODEL)
        opened.hire()
        yield opened


@pytest.fixture(scope="module")
def ai(place: Place) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{place.client.server}/v1", max_retries=0, timeout=70) as client:
        yield client


def add_template(folder: Path) -> None:
    """Make it a model that can chat."""
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def test_every_revision_speaks_by_its_name(place: Place, ai: OpenAI) -> None:
    def says(name: str) -> str:
        text: str = ai.completions.create(model=f"{MODEL}{name}", **GREEDY).choices[0].text
        return text

    before = says("")
    edit = place.ended(place.submit(hparams=STRONG).id)
    assert edit.status is EditStatus.APPLIED
    after = says("")
    assert after != before
    assert [model.id for model in ai.models.list()] == [
        *(MODEL, f"{MODEL}@base", f"{MODEL}@r1", f"{MODEL}@r0"),
    ]
    place.client.rollback(0)
    assert [says(name) for name in ("@base", "@r0", "@r1", "@r2", "")] == [before, before, after, before, before]
    with pytest.raises(openai.NotFoundError):
        says("@r3")


def test_it_says_what_generate_says(place: Place, ai: OpenAI) -> None:
    place.hire()
    compared = place.compare(top_logprobs=2).after
    choice = ai.completions.create(model=MODEL, **GREEDY, logprobs=2).choices[0]
    assert (choice.text, choice.finish_reason) == (compared.text, compared.finish_reason)
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == list(compared.tokens)
    assert choice.logprobs.token_logprobs == pytest.approx(list(compared.logprobs), abs=1e-4)
    assert choice.logprobs.top_logprobs is not None
    assert all(token in likely for token, likely in zip(compared.tokens, choice.logprobs.top_logprobs, strict=True))


def test_a_stream_says_what_the_whole_says(place: Place, ai: OpenAI) -> None:
    place.hire()
    asked: dict[str, Any] = {"model": MODEL, "prompt": [PROMPT, "The sport of"], "n": 3, "seed": 5, "max_tokens": 12}
    whole = ai.completions.create(**asked, logprobs=0)
    chunks = list(ai.completions.create(**asked, logprobs=0, stream=True, stream_options={"include_usage": True}))
    assert len({choice.text for choice in whole.choices}) > 1
    assert chunks.pop().usage == whole.usage
    for choice in whole.choices:
        parts = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason
        assert choice.logprobs is not None
        streamed = [part.logprobs for part in parts if part.logprobs is not None]
        assert [token for part in streamed for token in part.tokens or ()] == choice.logprobs.tokens
        assert [at for part in streamed for at in part.text_offset or ()] == choice.logprobs.text_offset


def test_a_stop_ends_the_text(place: Place, ai: OpenAI) -> None:
    place.hire()
    text = ai.completions.create(model=MODEL, **GREEDY).choices[0].text
    stop = text[len(text) // 2 :][:2]
    choice = ai.completions.create(model=MODEL, **GREEDY, stop=stop).choices[0]
    assert (choice.text, choice.finish_reason) == (text[: text.index(stop)], "stop")


def test_a_conversation_may_fill_the_context(place: Place, ai: OpenAI) -> None:
    place.hire()
    whole = ai.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    (choice,) = whole.choices
    assert whole.usage is not None
    fills = whole.usage.total_tokens == place.client.model().card.context_length
    assert choice.finish_reason == ("length" if fills else "stop")
    chunks = ai.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    text = f"system: Be brief. user: {PROMPT} assistant:"
    generated = place.compare(prompt=[text], max_new_tokens=8).after.text
    assert (choice.message.content or "").startswith(generated)


def test_what_does_not_fit_is_refused(place: Place, ai: OpenAI) -> None:
    place.hire()
    long: list[Any] = [{"role": "user", "content": f"{PROMPT} " * 100}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="shorten it") as caught:
            ai.chat.completions.create(model=MODEL, messages=long, stream=stream)
        assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


def test_a_stream_that_is_closed_frees_its_rows(place: Place, ai: OpenAI) -> None:
    """The worker stands still while the client goes, and then never comes to the end."""
    worker = place.hire()
    stream = ai.completions.create(model=MODEL, prompt=PROMPT, n=8, max_tokens=110, stream=True)
    assert next(stream).choices
    worker.signal(signal.SIGSTOP)
    (entry,) = place.redis.xrange(place.keys.lane)
    asked = json.loads(entry[1]["request"])
    stream.close()
    until(lambda: place.redis.xlen(place.keys.lane) == 0)
    worker.signal(signal.SIGCONT)
    until(lambda: place.redis.xpending(place.keys.lane, GROUP)["pending"] == 0, place.says)
    answers = [json.loads(fields["answer"]) for _, fields in place.redis.xrange(asked["answers"])]
    of_it = [answer for answer in answers if answer["id"] == asked["id"]]
    assert any(answer.get("pieces") for answer in of_it)
    assert not any(answer.get("decoded") for answer in of_it)
    assert ai.completions.create(model=MODEL, **GREEDY).choices[0].text
