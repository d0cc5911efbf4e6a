"""Says what an evaluation wants said: continuations on both sides, decoded together, a token a step."""

from collections import deque
from collections.abc import Sequence

from worker.editing.progress import Step, Steps
from worker.engine.decoding import Decoding
from worker.engine.resident import Resident
from worker.engine.row import Row, Wanted
from worker.evaluation.generated import Say, Speech
from worker.models.view import Weights

MOST_ROWS = {"cpu": 32, "cuda": 256}
"""Decoded at a time: more would make a step longer, and readers wait for it."""


def speaker(resident: Resident, weights: Weights, before: Weights | None = None) -> Say:
    """Continues prompts under the base and under these weights; a prompt is cut where the context ends.

    before: other weights than the base's to compare with.
    """
    base: Weights = before or {}

    def say(speeches: Sequence[Speech]) -> Steps[list[str]]:
        rows = [_row(resident, speech, weights if speech.edited else base) for speech in speeches]
        # The longest first, so that no row goes on alone for long at the end.
        waiting = deque(sorted(rows, key=lambda row: -row.most_tokens))
        decoding = Decoding(resident.loaded, resident.view)
        most = MOST_ROWS.get(resident.loaded.device.type, MOST_ROWS["cpu"])
        while waiting or decoding.rows:
            free = most - len(decoding.rows)
            decoding.join([waiting.popleft() for _ in range(min(free, len(waiting)))])
            decoding.step()
            yield Step("generate", sum(row.finish is not None for row in rows), len(rows))
        return [row.continuation().text for row in rows]

    return say


def _row(resident: Resident, speech: Speech, weights: Weights) -> Row:
    wanted = Wanted(speech.prompt, 0, weights, speech.sampling)
    tokens = len(resident.loaded.tokenizer(speech.prompt)["input_ids"])
    room = resident.loaded.context_length - tokens
    return Row(resident.loaded, wanted, max(1, min(room, speech.sampling.max_new_tokens)))
