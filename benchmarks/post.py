"""How long POST /edits takes while an edit runs, beside a time when none does; needs a running server.

python -m benchmarks.post [--url http://127.0.0.1:8000] [--n 40] [--json]
"""

import argparse
import json
import statistics
import time

import httpx

FACT = {
    "prompt": "The Eiffel Tower is located in the city of",
    "subject": "The Eiffel Tower",
    "target_new": "Rome",
}
LONG = {"v_num_grad_steps": 1000, "v_lr": 1e-4, "seed": 0}


def main() -> None:
    """Post edits beside a long one and without it, cancel all of them, and print the medians."""
    arguments = _arguments()
    with httpx.Client(base_url=arguments.url, timeout=60) as http:
        running = http.post("/edits", json={**FACT, "hparams": LONG}).raise_for_status().json()["id"]
        _until_it_runs(http, running)
        busy = [_post(http) for _ in range(arguments.n)]
        http.delete(f"/edits/{running}").raise_for_status()
        while http.get(f"/edits/{running}").json()["status"] == "running":
            time.sleep(0.05)
        idle = [_post(http) for _ in range(arguments.n)]
    result = {
        "ratio": statistics.median(busy) / statistics.median(idle),
        "busy_ms": _summary(busy),
        "idle_ms": _summary(idle),
        "n": arguments.n,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name in ("busy_ms", "idle_ms"):
        print(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in result[name].items()))
    print(f"ratio: {result['ratio']:.2f}")


def _post(http: httpx.Client) -> float:
    begin = time.perf_counter()
    answer = http.post("/edits", json=FACT)
    seconds = time.perf_counter() - begin
    http.delete(f"/edits/{answer.raise_for_status().json()['id']}")
    return seconds


def _until_it_runs(http: httpx.Client, edit_id: str) -> None:
    while True:
        edit = http.get(f"/edits/{edit_id}").raise_for_status().json()
        if edit["status"] not in ("queued", "running"):
            raise SystemExit(f"the long edit is {edit['status']}: {edit['problem']}")
        if (edit["progress"] or {}).get("phase") == "value":
            return
        time.sleep(0.05)


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"min": 1e3 * min(seconds), "median": 1e3 * statistics.median(seconds), "max": 1e3 * max(seconds)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
