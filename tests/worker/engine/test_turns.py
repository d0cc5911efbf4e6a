"""Rows join by turns of their clients, people before benchmarks, and none is lost or joined twice."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from service.contracts.generate import Priority
from service.contracts.lane import DecodeRequest, Started
from tests.families import tiny_model
from tests.worker.engine.reading_desk import asking, request_of
from worker.engine.asked import Asked
from worker.engine.row import Row, Wanted
from worker.engine.turns import Turns
from worker.models.loaded import LoadedModel

PLENTY = 1000
CLIENTS = ("ann", "bob", "eve")


@cache
def _loaded() -> LoadedModel:
    return tiny_model("gpt2")


def _asked(client: str, rows: int = 1, priority: Priority = Priority.INTERACTIVE) -> Asked:
    body: DecodeRequest = asking("The", client=client, priority=priority)
    made = [Row(_loaded(), Wanted((number,), 0, {}, body.sampling)) for number in range(1, rows + 1)]
    return Asked(request_of(body), body, Started(revisions=(0,), prompts=("The",), prompt_tokens=(1,)), made)


def _client(asked: Iterable[Asked], row: Row) -> str:
    return next(each.body.client for each in asked if any(row is other for other in each.rows))


def _join_all(turns: Turns) -> list[Row]:
    joined = []
    while (row := turns.next()) is not None:
        turns.join(row)
        joined.append(row)
    return joined


def test_a_row_waits_until_it_is_joined() -> None:
    turns, asked = Turns(PLENTY), _asked("ann", 2)
    assert turns.next() is None
    turns.enter(asked)
    assert turns.next() is turns.next() is asked.rows[0]
    turns.join(asked.rows[0])
    assert turns.next() is asked.rows[1]
    turns.join(asked.rows[1])
    assert turns.next() is None


def test_no_more_rows_join_than_there_is_room_for() -> None:
    turns, asked = Turns(3), _asked("ann", 5)
    turns.enter(asked)
    assert _join_all(turns) == asked.rows[:3]
    turns.leave(asked.rows[1:2])
    assert _join_all(turns) == asked.rows[3:4]


def test_people_come_before_benchmarks_whoever_came_first() -> None:
    turns = Turns(PLENTY)
    benchmark, person = _asked("bob", 3, Priority.BACKGROUND), _asked("ann", 3)
    turns.enter(benchmark)
    turns.enter(person)
    assert _join_all(turns) == [*person.rows, *benchmark.rows]


def test_benchmarks_leave_half_of_the_room_to_people() -> None:
    turns = Turns(6)
    benchmarks = [_asked(client, 4, Priority.BACKGROUND) for client in CLIENTS]
    for each in benchmarks:
        turns.enter(each)
    behind = _join_all(turns)
    assert len(behind) == 3
    person = _asked("ann", 9)
    turns.enter(person)
    assert _join_all(turns) == person.rows[:3]
    turns.leave(behind)
    assert _join_all(turns) == person.rows[3:6], "people first, though the benchmarks have nothing in the batch"


def test_a_benchmark_alone_in_a_place_of_one_row_is_served() -> None:
    turns, benchmark = Turns(1), _asked("bob", 2, Priority.BACKGROUND)
    turns.enter(benchmark)
    assert _join_all(turns) == benchmark.rows[:1]


def test_clients_take_turns_though_one_came_long_before() -> None:
    turns = Turns(PLENTY)
    asked = [_asked("ann", 4), _asked("bob", 2), _asked("eve", 1)]
    for each in asked:
        turns.enter(each)
    assert [_client(asked, row) for row in _join_all(turns)] == ["ann", "bob", "eve", "ann", "bob", "ann", "ann"]


def test_clients_take_turns_where_rows_leave_as_soon_as_they_have_joined() -> None:
    """With room for one, nobody ever has more in the batch than another; who has waited longest is next."""
    turns = Turns(1)
    asked = [_asked("ann", 4), _asked("bob", 2), _asked("eve", 1)]
    for each in asked:
        turns.enter(each)
    order = []
    while (row := turns.next()) is not None:
        turns.join(row)
        turns.leave([row])
        order.append(_client(asked, row))
    assert order == ["ann", "bob", "eve", "ann", "bob", "ann", "ann"]


def test_requests_of_one_client_wait_in_one_line() -> None:
    turns = Turns(PLENTY)
    asked = [_asked("ann", 1), _asked("ann", 1), _asked("bob", 1)]
    for each in asked:
        turns.enter(each)
    assert _join_all(turns) == [asked[0].rows[0], asked[2].rows[0], asked[1].rows[0]]


def test_rows_that_are_gone_leave_wherever_they_are() -> None:
    turns = Turns(2)
    gone, other = _asked("ann", 4), _asked("ann", 1)
    turns.enter(gone)
    turns.enter(other)
    assert _join_all(turns) == gone.rows[:2]
    turns.leave(gone.rows)
    assert _join_all(turns) == other.rows
    turns.leave([*gone.rows, *other.rows])
    assert turns.next() is None


REQUESTS = st.lists(
    st.tuples(st.sampled_from(CLIENTS), st.integers(1, 5), st.sampled_from(list(Priority))), min_size=1, max_size=8
)


@settings(deadline=None, database=None)
@given(requests=REQUESTS, most=st.integers(1, 8), data=st.data())
def test_nothing_is_lost_or_joined_twice_and_no_client_is_passed_over(
    requests: list[tuple[str, int, Priority]], most: int, data: st.DataObject
) -> None:
    """Whatever enters, joins and leaves, in whatever order."""
    turns, coming = Turns(most), [_asked(*each) for each in requests]
    waiting: list[tuple[Row, Asked]] = []
    batch: list[tuple[Row, Asked]] = []
    seen: list[Row] = []
    while coming or waiting or batch:
        can = [name for name, there in (("enter", coming), ("leave", batch or waiting), ("join", waiting)) if there]
        match data.draw(st.sampled_from(can)):
            case "enter":
                asked = coming.pop(0)
                turns.enter(asked)
                waiting += [(row, asked) for row in asked.rows]
            case "leave":
                some = data.draw(st.lists(st.sampled_from([*batch, *waiting]), min_size=1, max_size=3))
                turns.leave([row for row, _ in some])
                gone = {id(row) for row, _ in some}
                seen += [row for row, _ in waiting if id(row) in gone]
                waiting = [each for each in waiting if id(each[0]) not in gone]
                batch = [each for each in batch if id(each[0]) not in gone]
            case "join":
                row = turns.next()
                _check_turn(row, waiting, batch, most)
                if row is None:
                    continue
                turns.join(row)
                seen.append(row)
                (at,) = (at for at, each in enumerate(waiting) if each[0] is row)
                batch.append(waiting.pop(at))
    assert turns.next() is None
    assert len(seen) == len(set(map(id, seen))) == sum(count for _, count, _ in requests)


def _check_turn(row: Row | None, waiting: list[tuple[Row, Asked]], batch: list[tuple[Row, Asked]], most: int) -> None:
    """Asserts that this row may join next; or, where it is None, that none may."""
    behind = sum(asked.body.priority is Priority.BACKGROUND for _, asked in batch)
    people = [each for each in waiting if each[1].body.priority is Priority.INTERACTIVE]
    full, half = len(batch) >= most, behind >= max(1, most // 2)
    allowed = [] if full else people or ([] if half else waiting)
    assert (row is None) == (not allowed)
    if row is None:
        return
    (mine,) = (asked for other, asked in allowed if other is row)
    priority = mine.body.priority
    has = Counter(asked.body.client for _, asked in batch if asked.body.priority is priority)
    assert all(has[mine.body.client] <= has[asked.body.client] for _, asked in allowed)
    line = [other for other, asked in allowed if asked.body.client == mine.body.client]
    assert line[0] is row, "a client's rows join in their order"
