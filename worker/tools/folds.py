"""Every state that a ledger names, folded again one from another."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from service.active import Lines
from service.contracts.revisions import Entry, RevisionKind
from worker.editing.delta import WeightDelta
from worker.engine.resident import Resident
from worker.engine.state import State

KEPT_STATES = 4
"""States that are held to go on from; each is as large as two float64 copies of the edited layers."""


@dataclass(eq=False)
class _Node:
    """One set of active edits: that of `parent` and one more, `entry`."""

    parent: "_Node | None" = None
    entry: Entry | None = None
    revisions: list[int] = field(default_factory=list)
    children: dict[int, "_Node"] = field(default_factory=dict)

    def child(self, entry: Entry) -> "_Node":
        return self.children.setdefault(entry.revision, _Node(self, entry))


def states(
    resident: Resident, lines: Lines, delta: Callable[[Entry], WeightDelta], lost: Collection[str] = ()
) -> Iterator[tuple[State, Sequence[int]]]:
    """Each state that the ledger names, once, with the revisions that are in it; without those that need a lost blob.

    A state is folded from the last one that it contains, where that is still held.
    """
    kept: OrderedDict[_Node, State] = OrderedDict()
    waiting = [_tree(lines)]
    while waiting:
        node = waiting.pop()
        waiting += [child for child in node.children.values() if child.entry and child.entry.blob not in lost][::-1]
        if node.revisions:
            kept[node] = state = _state(resident, node, kept, delta)
            if len(kept) > KEPT_STATES:
                kept.popitem(last=False)
            yield state, node.revisions


def _tree(lines: Lines) -> _Node:
    root = _Node()
    nodes: list[_Node] = []
    for entry in lines.entries:
        match entry.kind:
            case RevisionKind.BASE:
                node = root
            case RevisionKind.EDIT:
                node = nodes[-1].child(entry)
            case RevisionKind.ROLLBACK:
                node = nodes[entry.to or 0]
            case _:
                node = root
                for active in lines.active(entry.revision):
                    node = node.child(active)
        node.revisions.append(entry.revision)
        nodes.append(node)
    return root


def _state(
    resident: Resident, node: _Node, kept: OrderedDict[_Node, State], delta: Callable[[Entry], WeightDelta]
) -> State:
    missing: list[Entry] = []
    at: _Node | None = node
    while at is not None and at not in kept and at.entry is not None:
        missing.append(at.entry)
        at = at.parent
    begin = kept.get(at) if at is not None else None
    return (begin or State(resident, {})).plus(*map(delta, reversed(missing)))
