"""Which object goes on which association, when it is tried again, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_port import EXPLICIT, IMPLICIT, image

from dicomwire.bulk.dispatcher import MOST_CONTEXTS, Dispatcher, Retry
from dicomwire.bulk.pipeline import Sent
from dicomwire.data.blocking import run_blocking
from dicomwire.errors import (
    AssociationAborted,
    AssociationFailure,
    AssociationRejected,
    ConnectionLost,
    TLSFailure,
    TLSFault,
)
from dicomwire.protocol.command import Command, Message
from dicomwire.services.port import END

LOST = ConnectionLost("gone", stage="data")
NOBODY = ConnectionLost("refused", stage="connect")
BUSY = AssociationRejected("busy", 2, 3, 2)
UNWANTED = AssociationRejected("unwanted", 1, 1, 3)
NOTHING_ACCEPTED = AssociationAborted(
    "nothing accepted", source=2, reason=0, by_peer=False, stage="associate"
)


def make(uid: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.2", syntax: str = IMPLICIT) -> Any:
    ds = image(uid)
    ds.SOPClassUID = sop_class
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def response(code: int) -> Message:
    return Message(Command.C_STORE_RSP, Status=code)


class FakeMonitor:
    """Nobody else is there: to wait lets the time pass."""

    def __init__(self, outlet: FakeOutlet) -> None:
        self._outlet = outlet

    async def __aenter__(self) -> FakeMonitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait(self, timeout: float | None = None) -> None:
        assert timeout is not None, "waits for ever"
        self._outlet.waits.append(timeout)
        self._outlet.time += timeout

    def notify_all(self) -> None:
        pass


class FakeOutlet:
    """Answers each object as `answer` says: with a status, or by the end of the association.

    Attributes
    ----------
    proposed : list of list of keys
        What each association was requested with.
    refusals : list of AssociationFailure or None
        What comes of the first associations; None, and all later ones, are to be had.
    """

    def __init__(self, answer: Callable[[str], int | Exception], *refusals: Any) -> None:
        self.answer = answer
        self.refusals = list(refusals)
        self.proposed: list[list[tuple[str, str]]] = []
        self.sent: list[str] = []
        self.waits: list[float] = []
        self.time = 100.0
        self.window = 1

    def monitor(self) -> FakeMonitor:
        return FakeMonitor(self)

    def now(self) -> float:
        return self.time

    async def associate(self, keys: list[tuple[str, str]], feed: Any, priority: int) -> Any:
        self.proposed.append(keys)
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        return FakeAssociation(self, feed)

    async def note(self, record: Any, sent: Sent) -> None:
        record.note(sent)


class FakeAssociation:
    def __init__(self, outlet: FakeOutlet, items: Any) -> None:
        self._outlet = outlet
        self._items = items
        self._outstanding: list[Any] = []
        self._failure: AssociationFailure | None = None

    def at_hand(self) -> None:
        return None

    async def next(self) -> Sent | None:
        outlet = self._outlet
        while self._failure is None and len(self._outstanding) < outlet.window:
            task = await self._items.take()
            if task is END:
                break
            self._outstanding.append(task)
            outlet.sent.append(task.uid)
        if not self._outstanding:
            return None
        task = self._outstanding.pop(0)
        if self._failure is None:
            outcome = outlet.answer(task.uid)
            if isinstance(outcome, int):
                return Sent(task, task.uid, response(outcome))
            if not isinstance(outcome, AssociationFailure):
                return Sent(task, task.uid, failure=outcome)
            self._failure = outcome
        return Sent(task, task.uid, failure=self._failure)

    async def end(self) -> None:
        pass


def dispatch(outlet: FakeOutlet, items: Any, **options: Any) -> dict[str, Sent]:
    """Run one lane to its end, and return the results by UID."""
    dispatcher = Dispatcher(outlet, items, 1, **options)
    run_blocking(dispatcher.run())
    results: dict[str, Sent] = {}
    while (sent := run_blocking(dispatcher.next())) is not None:
        assert sent.sop_instance_uid not in results
        results[sent.sop_instance_uid] = sent
    return results


def failing_at_first(times: int, failure: int | Exception, *uids: str) -> Callable[[str], Any]:
    left = dict.fromkeys(uids, times)

    def answer(uid: str) -> int | Exception:
        if left.get(uid, 0):
            left[uid] -= 1
            return failure
        return 0

    return answer


def numbered(count: int) -> list[Any]:
    return [make(f"1.2.{number}") for number in range(count)]


# --- Contexts ---


def test_the_contexts_are_those_of_the_objects():
    outlet = FakeOutlet(lambda uid: 0)
    items = [make("1.1"), make("1.2", syntax=EXPLICIT), make("1.3"), make("1.4", "1.2.3")]
    results = dispatch(outlet, items)
    assert [each.item for each in results.values()] == items
    assert [sorted(keys) for keys in outlet.proposed] == [
        sorted(
            [
                ("1.2.840.10008.5.1.4.1.1.2", IMPLICIT),
                ("1.2.840.10008.5.1.4.1.1.2", EXPLICIT),
                ("1.2.3", IMPLICIT),
            ]
        )
    ]


def test_one_syntax_for_all():
    outlet = FakeOutlet(lambda uid: 0)
    dispatch(outlet, [make("1.1"), make("1.2", syntax=EXPLICIT)], transfer_syntax=EXPLICIT)
    assert outlet.proposed == [[("1.2.840.10008.5.1.4.1.1.2", EXPLICIT)]]


def test_what_comes_up_later_goes_on_another_association():
    outlet = FakeOutlet(lambda uid: 0)
    items = iter([make("1.1"), make("1.2", "1.2.3"), make("1.3")])
    results = dispatch(outlet, items)
    assert outlet.sent == ["1.1", "1.3", "1.2"]
    assert set(results) == {"1.1", "1.2", "1.3"}
    assert [len(keys) for keys in outlet.proposed] == [1, 2]


def test_more_contexts_than_an_association_has():
    outlet = FakeOutlet(lambda uid: 0)
    items = [make(f"1.2.{number}", f"1.3.{number}") for number in range(300)]
    results = dispatch(outlet, items)
    assert len(results) == 300
    assert len(outlet.proposed) == 3
    assert all(len(keys) <= MOST_CONTEXTS for keys in outlet.proposed)


def test_objects_that_the_peer_takes_nothing_of():
    outlet = FakeOutlet(lambda uid: 0, NOTHING_ACCEPTED)
    items = [make("1.1", "1.2.3"), make("1.2"), make("1.3", "1.2.3")]
    results = dispatch(outlet, iter(items))
    assert results["1.1"].failure is NOTHING_ACCEPTED
    assert results["1.3"].failure is NOTHING_ACCEPTED
    assert results["1.2"].is_stored
    assert outlet.proposed[1] == [("1.2.840.10008.5.1.4.1.1.2", IMPLICIT)]


# --- Objects that are tried again ---


def test_a_status_that_will_not_last():
    outlet = FakeOutlet(failing_at_first(3, 0xA701, "1.2.1"))
    results = dispatch(outlet, numbered(3))
    assert all(each.is_stored for each in results.values())
    assert outlet.sent == ["1.2.0", "1.2.1", "1.2.2", "1.2.1", "1.2.1", "1.2.1"]
    assert outlet.waits == [1.0, 2.0, 4.0]


def test_no_more_often_than_allowed():
    outlet = FakeOutlet(failing_at_first(99, 0xA700, "1.2.1"))
    results = dispatch(outlet, numbered(3), retry=Retry(attempts=4, delay=2, longest_delay=5))
    assert results["1.2.1"].code == 0xA700
    assert outlet.waits == [2.0, 4.0, 5.0]
    assert outlet.sent.count("1.2.1") == 4


@pytest.mark.parametrize("outcome", [0xC001, 0x0110, 0x0122, ValueError("no"), OSError("no")])
def test_what_will_last_is_not_tried_again(outcome):
    outlet = FakeOutlet(failing_at_first(1, outcome, "1.2.1"))
    results = dispatch(outlet, numbered(3))
    assert not results["1.2.1"].is_stored
    assert (results["1.2.1"].code or results["1.2.1"].failure) == outcome
    assert len(outlet.sent) == 3


def test_statuses_of_the_programs_choice():
    outlet = FakeOutlet(failing_at_first(1, 0x0110, "1.2.1"))
    results = dispatch(outlet, numbered(2), retry=Retry(statuses={0x0110}))
    assert results["1.2.1"].is_stored


def test_not_at_all():
    outlet = FakeOutlet(failing_at_first(1, 0xA700, "1.2.1"))
    results = dispatch(outlet, numbered(2), retry=Retry(attempts=1))
    assert results["1.2.1"].code == 0xA700
    assert outlet.waits == []


# --- Associations that fail ---


def test_an_association_is_lost():
    outlet = FakeOutlet(failing_at_first(1, LOST, "1.2.2"))
    outlet.window = 4
    results = dispatch(outlet, numbered(8))
    assert all(each.is_stored for each in results.values())
    assert len(results) == 8
    assert len(outlet.proposed) == 2
    assert outlet.waits == [1.0]


def test_an_object_that_no_association_survives():
    outlet = FakeOutlet(failing_at_first(99, LOST, "1.2.2"))
    outlet.window = 4
    results = dispatch(outlet, numbered(8), retry=Retry(attempts=3))
    assert [uid for uid, sent in results.items() if not sent.is_stored] == ["1.2.2"]
    assert results["1.2.2"].failure is LOST
    assert outlet.sent.count("1.2.2") == 3


def test_a_peer_that_ends_every_association():
    outlet = FakeOutlet(lambda uid: LOST)
    outlet.window = 4
    results = dispatch(outlet, iter(numbered(50)), retry=Retry(attempts=3))
    assert len(results) == 50
    assert all(each.failure is LOST for each in results.values())
    assert len(outlet.proposed) == 3


@pytest.mark.parametrize(
    "failure",
    [NOBODY, UNWANTED, TLSFailure("no", fault=TLSFault.UNKNOWN_AUTHORITY, by_peer=False)],
)
def test_a_peer_that_is_not_to_be_had(failure):
    outlet = FakeOutlet(lambda uid: 0, *[failure] * 99)
    results = dispatch(outlet, iter(numbered(50)))
    assert len(results) == 50
    assert all(each.failure is failure for each in results.values())
    assert len(outlet.proposed) == 1
    assert outlet.waits == []


def test_a_peer_that_is_busy():
    outlet = FakeOutlet(lambda uid: 0, BUSY, BUSY)
    results = dispatch(outlet, numbered(3))
    assert all(each.is_stored for each in results.values())
    assert outlet.waits == [1.0, 2.0]


def test_a_peer_that_goes_away_and_comes_back():
    outlet = FakeOutlet(failing_at_first(1, LOST, "1.2.2"), None, NOBODY, NOBODY)
    results = dispatch(outlet, numbered(5))
    assert all(each.is_stored for each in results.values())
    assert outlet.waits == [1.0, 2.0, 4.0]


def test_a_peer_that_goes_away_for_good():
    outlet = FakeOutlet(failing_at_first(1, LOST, "1.2.2"), None, *[NOBODY] * 99)
    results = dispatch(outlet, numbered(5), retry=Retry(attempts=3))
    assert [sent.is_stored for sent in results.values()] == [True, True, False, False, False]
    assert results["1.2.4"].failure is NOBODY


# --- Items and the record ---


def test_items_that_are_none():
    nameless = make("1.1")
    del nameless.SOPInstanceUID
    outlet = FakeOutlet(lambda uid: 0)
    dispatcher = Dispatcher(outlet, [nameless, make("1.2"), object(), "/nowhere"], 1)
    run_blocking(dispatcher.run())
    results = []
    while (sent := run_blocking(dispatcher.next())) is not None:
        results.append(sent)
    kinds = [type(each.failure) for each in results]
    assert sorted(kind.__name__ for kind in kinds) == [
        "AttributeError",
        "FileNotFoundError",
        "NoneType",
        "TypeError",
    ]


def test_an_iterable_that_fails():
    def items():
        yield make("1.1")
        raise ZeroDivisionError

    dispatcher = Dispatcher(FakeOutlet(lambda uid: 0), items(), 1)
    run_blocking(dispatcher.run())
    assert run_blocking(dispatcher.next()).is_stored
    with pytest.raises(ZeroDivisionError):
        run_blocking(dispatcher.next())
    assert run_blocking(dispatcher.next()) is None


class FakeRecord:
    def __init__(self, **stored: int) -> None:
        self.stored = {uid.replace("_", "."): status for uid, status in stored.items()}
        self.noted: list[Sent] = []

    def status_of(self, uid: str) -> int | None:
        return self.stored.get(uid.replace("1.2.", "u."))

    def note(self, sent: Sent) -> None:
        self.noted.append(sent)


def test_what_is_on_record_is_not_sent():
    record = FakeRecord(u_0=0x0000, u_2=0xB000)
    outlet = FakeOutlet(failing_at_first(1, 0xA700, "1.2.1"))
    results = dispatch(outlet, numbered(5), ledger=record)
    assert [each.is_resumed for each in results.values()].count(True) == 2
    assert results["1.2.2"].code == 0xB000
    assert results["1.2.2"].is_stored
    assert sorted(outlet.sent) == ["1.2.1", "1.2.1", "1.2.3", "1.2.4"]
    assert sorted(each.sop_instance_uid for each in record.noted) == ["1.2.1", "1.2.3", "1.2.4"]
    assert all(each.is_stored for each in record.noted)  # and not what is tried again


def test_nothing_but_what_is_on_record_needs_no_association():
    outlet = FakeOutlet(lambda uid: 0)
    assert dispatch(outlet, numbered(1), ledger=FakeRecord(u_0=0))["1.2.0"].is_resumed
    assert outlet.proposed == []
    assert dispatch(outlet, []) == {}
