"""A trace of one answer against its restored runs one at a time, and as the published code runs them.

    python -m benchmarks.trace [--prompt TEXT --subject TEXT] [--samples 10] [--threads 2] [--part 60] [--json]

All layers, all tokens, three kinds. `single`: one run of the whole model a sample; `published`: the clean row and the
samples' rows in one batch, logits everywhere. Both are timed on `--part` restored runs, chosen evenly, and counted up.
Seconds are wall-clock; on a busy machine look at the CPU's seconds beside them.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench import finish, parser, report
from service.contracts.traces import Kind, TraceRequest
from worker.models.loaded import LoadedModel
from worker.models.loading import load
from worker.tracing.asked import Asked
from worker.tracing.noise import draw
from worker.tracing.restoring import Restoration, restorations
from worker.tracing.runs import place
from worker.tracing.trace import Found, trace


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of the CPU."""

    wall: float
    cpu: float


def main() -> None:
    """Trace, restore some runs plainly, compare."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    loaded = load(arguments.model, arguments.dtype, arguments.device, arguments.data_dir)
    request = TraceRequest(prompt=arguments.prompt, subject=arguments.subject, samples=arguments.samples)
    whole, found = _timed(lambda: finish(trace(loaded, request)))
    plain = Plain(loaded, found, request)
    single, one = plain.timed(arguments.part, batched=False)
    published, batch = plain.timed(arguments.part, batched=True)
    result = {
        "ratio": single.cpu / whole.cpu,
        "ratio_to_published": published.cpu / whole.cpu,
        "restored_runs": plain.runs * arguments.samples,
        "seconds": whole.wall,
        "cpu_seconds": whole.cpu,
        "seconds_single": single.wall,
        "cpu_seconds_single": single.cpu,
        "seconds_published": published.wall,
        "cpu_seconds_published": published.cpu,
        "largest_difference_to_single": one,
        "largest_difference_to_published": batch,
        "threads": torch.get_num_threads(),
        "fast_products": loaded.products is not None,
    }
    report(result, as_json=arguments.json)


class Plain:
    """Restored runs of the whole model with hooks."""

    def __init__(self, loaded: LoadedModel, found: Found, request: TraceRequest) -> None:
        self._loaded, self._found, self._asked = loaded, found, found.asked
        embeddings: Any = loaded.model.get_input_embeddings()
        width = embeddings.weight.shape[1]
        scale = request.noise * found.sigma
        self._noise = draw(request.samples, len(found.asked.subject), width, scale, request.seed)
        wanted = [each for kind in Kind for each in restorations(kind, loaded.layers, found.window)]
        self._all = [(token, each) for token in found.tokens for each in wanted]

    @property
    def runs(self) -> int:
        """Restorations, each for all samples."""
        return len(self._all)

    def timed(self, part: int, *, batched: bool) -> tuple[Spent, float]:
        """What all of them would take, from a part; and how far the part is from the trace."""
        chosen = self._all[:: max(1, self.runs // part)]
        apart = 0.0
        begin = time.perf_counter(), time.process_time()
        for token, restoration in chosen:
            means = self._batch(token, restoration) if batched else self._single(token, restoration)
            expected = self._found.restored[restoration.kind][token, restoration.layer]
            apart = max(apart, abs(means - float((expected if batched else expected[:1]).mean())))
        share = self.runs / len(chosen) * (1 if batched else len(self._noise))
        wall, cpu = (now - then for now, then in zip((time.perf_counter(), time.process_time()), begin, strict=True))
        return Spent(share * wall, share * cpu), apart

    def _single(self, token: int, restoration: Restoration) -> float:
        return float(self._run(self._noise[:1], token, restoration, clean=False)[0])

    def _batch(self, token: int, restoration: Restoration) -> float:
        return float(self._run(self._noise, token, restoration, clean=True)[1:].mean())

    @torch.no_grad()
    def _run(self, noise: Tensor, token: int, restoration: Restoration, *, clean: bool) -> Tensor:
        """clean: put back what the first row computes, as the published code does, rather than what is known."""
        asked, loaded = self._asked, self._loaded
        rows = torch.zeros(1, *noise.shape[1:]) if clean else noise[:0]
        hooks = [(loaded.model.get_input_embeddings(), _hide(asked, torch.cat([rows, noise])))]
        states = self._found.clean.states[restoration.kind]
        for layer in range(restoration.first, restoration.last + 1):
            hooks.append((place(loaded, restoration.kind, layer), _put(token, None if clean else states[layer][token])))
        ids = torch.tensor([asked.row.ids] * (len(noise) + clean), device=loaded.device)
        with _hooked(hooks):
            logits = loaded.model(input_ids=ids, use_cache=False).logits
        logprobs = logits[:, list(asked.row.reads)].float().log_softmax(-1)
        answers: Tensor = logprobs[:, range(len(asked.row.reads)), list(asked.row.targets)].sum(1).exp()
        return answers


def _hide(asked: Asked, noise: Tensor) -> Callable[[Tensor], None]:
    def act(output: Tensor) -> None:
        output[:, asked.subject.start : asked.subject.stop] += noise.to(output)

    return act


def _put(token: int, state: Tensor | None) -> Callable[[Tensor], None]:
    def act(output: Tensor) -> None:
        output[:, token] = output[:1, token] if state is None else state

    return act


def _hooked(hooks: Sequence[tuple[Any, Callable[[Tensor], None]]]) -> ExitStack:
    def hook(act: Callable[[Tensor], None]) -> Callable[..., Any]:
        return lambda _, __, output: act(output[0] if isinstance(output, tuple) else output)

    stack = ExitStack()
    for module, act in hooks:
        stack.callback(module.register_forward_hook(hook(act)).remove)
    return stack


def _timed(action: Callable[[], Found]) -> tuple[Spent, Found]:
    begin = time.perf_counter(), time.process_time()
    found = action()
    return Spent(time.perf_counter() - begin[0], time.process_time() - begin[1]), found


def _arguments() -> argparse.Namespace:
    found = parser(__doc__)
    found.add_argument("--prompt", default="The Eiffel Tower is located in the city of")
    found.add_argument("--subject", default="The Eiffel Tower")
    found.add_argument("--samples", type=int, default=10)
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--part", type=int, default=60, help="restored runs that are run plainly")
    return found.parse_args()


if __name__ == "__main__":
    main()
