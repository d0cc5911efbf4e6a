"""The commands that look at a server, against the running API."""

from service.contracts.model import MethodCard, MethodList, ModelStatus
from tests.service.conftest import Run
from tests.service.stand_in import EIFFEL, StandIn, method_card, queue_edit


def test_status(ask: Run, worker: StandIn) -> None:
    worker.apply(queue_edit(worker.edits).id)
    code, output, _ = ask("status")
    assert code == 0
    for part in ("test-model", "leader", "ready: stands in, r1", EIFFEL["prompt"], "applied"):
        assert part in output
    code, output, _ = ask("status", "--json")
    assert ModelStatus.model_validate_json(output).revision == 1


def test_status_tells_scripts_when_nobody_serves_the_head(ask: Run, worker: StandIn) -> None:
    worker.die()
    code, output, errors = ask("status", "--json")
    assert code == 3
    assert ModelStatus.model_validate_json(output).workers == ()
    assert "No worker" in errors


def test_methods(ask: Run, worker: StandIn) -> None:
    bare = method_card(name="bare", title="Nothing [shipped]", batch=True, defaults=None)
    worker.publish(methods=(method_card(), bare))
    code, output, _ = ask("methods")
    rome, other = (line.split() for line in output.splitlines()[1:])
    assert code == 0
    assert rome[:5] == ["rome", "one", "by", "one", "yes"]
    assert other[:5] == ["bare", "at", "once", "give", "--hparam"]
    assert "Nothing [shipped]" in output
    _, output, _ = ask("methods", "--json")
    assert [card.name for card in MethodList.model_validate_json(output).methods] == ["rome", "bare"]


def test_the_hyperparameters_of_a_method(ask: Run, worker: StandIn) -> None:
    assert worker.ledger.head() == 0
    code, output, _ = ask("methods", "rome")
    assert code == 0
    assert ["v_lr", "0.5", "number", ">", "0"] in [line.split() for line in output.splitlines()]
    _, output, _ = ask("methods", "rome", "--json")
    assert MethodCard.model_validate_json(output) == method_card()
    code, output, errors = ask("methods", "magic")
    assert (code, output, errors) == (4, "", "There is no method magic; take one of rome.\n")
