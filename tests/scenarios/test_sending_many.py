"""Many objects to one peer: parallel associations, what is tried again, and the ledger."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from pathlib import Path

import pytest
from scenario import Recorder, Threaded, eventually, make_ct

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AssociationFailure,
    AssociationRejected,
    ConnectionLost,
    LedgerError,
    Retry,
    StoragePresentationContexts,
    build_context,
    evt,
    send_many,
)
from dicomwire.threaded import threads
from raw_peer import CT, EXPLICIT, IMPLICIT, WAIT

SOON = Retry(delay=0.01, longest_delay=0.05)
MR = "1.2.840.10008.5.1.4.1.1.4"

pytestmark = pytest.mark.threaded_only("each face has a function of its own for this")


class Archive:
    """A server that remembers what it stored, and can be told what to do first."""

    def __init__(self, face: Threaded, contexts=None, **settings) -> None:
        self.stored: Counter[str] = Counter()
        self.contexts: list[int] = []
        self.proposed: list[list[tuple[str, str]]] = []
        self.busiest = 0
        self.before = lambda event: None
        self._lock = threading.Lock()
        ae = face.ae("SCP", **({"operations_window": 16} | settings))
        for uid in (CT, MR):
            ae.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        if contexts is not None:
            ae.supported_contexts = None
            ae.supported_contexts = contexts
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_REQUESTED, self._note)]
        self.server = face.serve(handlers, ae=ae)
        self.address = ("127.0.0.1", self.server.server_address[1])

    def _note(self, event) -> None:
        contexts = event.assoc.requestor.primitive.presentation_contexts
        with self._lock:
            self.proposed.append([(x.abstract_syntax, x.transfer_syntax[0]) for x in contexts])

    def _store(self, event) -> int:
        with self._lock:
            self.busiest = max(self.busiest, len(self.server.active_associations))
        status = self.before(event)
        if status is None:
            with self._lock:
                self.stored[event.request.AffectedSOPInstanceUID] += 1
            return 0
        return status


def objects(count: int, size: int = 64) -> list:
    return [make_ct(size, f"1.2.3.{number}") for number in range(count)]


def expected(count: int) -> dict[str, int]:
    return {f"1.2.3.{number}": 1 for number in range(count)}


# --- All goes well ---


@pytest.mark.parametrize(("associations", "window"), [(1, 1), (1, 16), (4, 1), (4, 16)])
def test_all_are_stored_once(face, associations, window):
    archive = Archive(face)
    items = objects(300)
    results = list(
        send_many(AE(), archive.address, items, associations=associations, window=window, max_pdu=0)
    )
    assert archive.stored == expected(300)
    assert sorted(id(item) for item, status in results if status.Status == 0) == sorted(
        map(id, items)
    )
    assert len(archive.proposed) <= associations
    assert archive.busiest <= associations
    assert face.is_quiet(archive.server)


def test_parallel_associations_are_really_used(face):
    """Each handler waits until four of them run."""
    archive = Archive(face)
    together = threading.Barrier(4)
    archive.before = lambda event: together.wait(WAIT) and None
    results = list(send_many(AE(), archive.address, objects(16), associations=4))
    assert all(each.is_stored for each in results)
    assert archive.busiest == 4


def test_files_and_datasets_of_several_kinds(face, tmp_path):
    path = tmp_path / "mr.dcm"
    ds = make_ct(instance="1.2.4", syntax=IMPLICIT)
    ds.SOPClassUID = MR
    ds.save_as(path, enforce_file_format=True)
    archive = Archive(face)
    items = [make_ct(instance="1.2.5"), path, str(path), path.read_bytes()]
    results = list(send_many(AE("ME"), archive.address, items, ae_title="YOU"))
    assert all(each.is_stored for each in results)
    assert archive.stored == {"1.2.5": 1, "1.2.4": 3}
    assert [sorted(keys) for keys in archive.proposed] == [[(CT, EXPLICIT), (MR, IMPLICIT)]]


def test_a_small_file_is_opened_once_unless_it_is_tried_again(face, tmp_path, monkeypatch):
    opened: Counter[str] = Counter()

    open_file = os.open

    def noted(path, *args):
        opened[Path(path).name] += 1
        return open_file(path, *args)

    archive = Archive(face)
    refusals = {"1.2.3.2": 1}
    archive.before = lambda event: (
        0xA700 if refusals.pop(event.request.AffectedSOPInstanceUID, None) else None
    )
    paths = [tmp_path / str(number) for number in range(4)]
    for path, ds in zip(paths, objects(4), strict=True):
        ds.save_as(path, enforce_file_format=True)
    monkeypatch.setattr("dicomwire.data.storable.os.open", noted)
    results = list(send_many(face.ae(), archive.address, paths, window=4, retry=SOON))
    assert all(sent.is_stored for sent in results)
    assert opened == {"0": 1, "1": 1, "2": 2, "3": 1}


def test_more_contexts_than_fit_one_association(face):
    kinds = [context.abstract_syntax for context in StoragePresentationContexts[:100]]
    pairs = [(kind, syntax) for kind in kinds for syntax in (IMPLICIT, EXPLICIT)]
    items = []
    for number, (kind, syntax) in enumerate(pairs):
        ds = make_ct(instance=f"1.2.3.{number}", syntax=syntax)
        ds.SOPClassUID = kind
        items.append(ds)
    archive = Archive(face, [build_context(kind, [IMPLICIT, EXPLICIT]) for kind in kinds])
    results = list(send_many(AE(), archive.address, items, associations=2, window=4))
    assert all(each.is_stored for each in results)
    assert archive.stored == expected(200)
    assert all(len(keys) <= 128 for keys in archive.proposed)


def test_what_cannot_be_sent(face, tmp_path):
    archive = Archive(face, [build_context(CT, EXPLICIT)])
    other = make_ct(instance="1.2.9")
    other.SOPClassUID = MR
    items = [*objects(3), tmp_path / "nowhere", other, object()]
    results = list(send_many(AE(), archive.address, items, retry=SOON))
    failures = {type(each.failure) for each in results if not each.is_stored}
    assert failures == {FileNotFoundError, ValueError, TypeError}
    assert archive.stored == expected(3)


def test_a_peer_that_takes_nothing_of_this_kind(face):
    archive = Archive(face, [build_context(MR, EXPLICIT)])
    results = list(send_many(AE(), archive.address, objects(3), retry=SOON))
    assert len(results) == 3
    assert all("no presentation context" in str(each.failure) for each in results)


# --- Not all goes well ---


def test_a_peer_that_is_out_of_resources_for_a_while(face):
    archive = Archive(face)
    refused: Counter[str] = Counter()

    def before(event):
        uid = event.request.AffectedSOPInstanceUID
        refused[uid] += 1
        return 0xA700 if refused[uid] <= 2 else None

    archive.before = before
    results = list(send_many(AE(), archive.address, objects(30), retry=SOON, window=8))
    assert all(each.is_stored for each in results)
    assert len(results) == 30
    assert archive.stored == expected(30)


@pytest.mark.parametrize("associations", [1, 3])
def test_associations_that_are_lost(face, associations):
    archive = Archive(face)
    calls = iter(range(1_000_000))

    def before(event):
        if next(calls) % 20 == 19:
            event.assoc.abort()
        return None if event.assoc.is_established else 0xC000

    archive.before = before
    items = objects(200)
    results = list(
        send_many(AE(), archive.address, items, associations=associations, window=8, retry=SOON)
    )
    assert all(each.is_stored for each in results)
    assert len(results) == 200
    assert archive.stored == expected(200)
    assert face.is_quiet(archive.server)


def test_an_object_that_no_association_survives(face):
    archive = Archive(face)

    def before(event):
        if event.request.AffectedSOPInstanceUID == "1.2.3.7":
            event.assoc.abort()
            return 0xC000
        return None

    archive.before = before
    results = list(
        send_many(AE(), archive.address, objects(40), associations=2, window=8, retry=SOON)
    )
    lost = [each for each in results if not each.is_stored]
    assert [each.sop_instance_uid for each in lost] == ["1.2.3.7"]
    assert isinstance(lost[0].failure, AssociationFailure)
    del archive.stored["1.2.3.7"]
    assert len(archive.stored) == 39


def test_more_associations_than_the_peer_allows(face):
    archive = Archive(face, maximum_associations=1)
    results = list(send_many(AE(), archive.address, objects(40), associations=4, retry=SOON))
    assert all(each.is_stored for each in results)
    assert archive.stored == expected(40)
    assert archive.busiest == 1


def test_nobody_there(face):
    archive = Archive(face)
    archive.server.shutdown()
    results = list(send_many(AE(), archive.address, objects(40), associations=4))
    assert len(results) == 40
    assert all(isinstance(each.failure, ConnectionLost) for each in results)
    assert {each.failure.stage for each in results} == {"connect"}


def test_a_peer_that_does_not_want_us(face):
    archive = Archive(face)
    archive.server.ae.require_called_aet = True
    results = list(send_many(AE(), archive.address, iter(objects(5)), ae_title="OTHER"))
    assert len(results) == 5
    assert all(isinstance(each.failure, AssociationRejected) for each in results)


# --- The program ---


def test_an_iterable_that_fails(face):
    def items():
        yield from objects(5)
        raise ZeroDivisionError

    archive = Archive(face)
    results = send_many(AE(), archive.address, items(), window=8)
    assert [next(results).is_stored for _ in range(5)] == [True] * 5
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_arguments_that_make_no_sense(face):
    archive = Archive(face)
    with pytest.raises(ValueError, match="associations"):
        send_many(AE(), archive.address, [], associations=0)
    with pytest.raises(ValueError, match="window"):
        list(send_many(AE(), archive.address, objects(1), window=0))
    with pytest.raises(TypeError, match="nonsense"):
        list(send_many(AE(), archive.address, objects(1), nonsense=0))
    assert list(send_many(AE(), archive.address, [])) == []


@pytest.mark.parametrize("how", ["close", "with", "del", "exception"])
def test_the_program_has_enough(face, how):
    archive = Archive(face)
    drawn = iter(objects(500))
    results = send_many(AE(), archive.address, drawn, associations=2, window=4)
    next(results)
    if how == "close":
        results.close()
        assert list(results) == []
    elif how == "with":
        with results:
            pass
    elif how == "exception":
        with pytest.raises(ZeroDivisionError), results:
            raise ZeroDivisionError
    del results
    gc.collect()
    assert face.is_quiet(archive.server)
    assert set(archive.stored.values()) == {1}
    left = len(list(drawn))
    assert len(archive.stored) <= 500 - left


def test_results_that_nobody_wants_cost_one_task(tmp_path, monkeypatch):
    submitted, closed = [], threading.Event()
    submit = threads.submit
    monkeypatch.setattr(threads, "submit", lambda task: submitted.append(task) or submit(task))
    monkeypatch.setattr(os, "fsync", lambda file: closed.set())
    send_many(AE(), ("127.0.0.1", 1), [], ledger=tmp_path / "ledger")
    gc.collect()
    assert closed.wait(WAIT)
    assert len(submitted) == 1


def test_the_program_has_enough_of_a_peer_that_hangs(face):
    archive = Archive(face)
    go_on = threading.Event()
    log = Recorder(evt.EVT_ABORTED)
    archive.before = lambda event: go_on.wait(WAIT) and None
    results = send_many(AE(), archive.address, objects(9), window=4, evt_handlers=log.handlers)
    waiting = threading.Thread(target=lambda: list(results))
    waiting.start()
    assert eventually(lambda: archive.busiest)
    results.close(timeout=0.05)
    log.wait_for(evt.EVT_ABORTED)
    waiting.join(WAIT)
    go_on.set()
    assert face.is_quiet(archive.server)


def test_results_that_nobody_takes_hold_the_sender_back(face):
    archive = Archive(face)
    drawn = []

    def items():
        for each in range(3000):
            drawn.append(each)
            yield make_ct(instance=f"1.2.3.{each}")

    with send_many(AE(), archive.address, items(), associations=2, window=16) as results:
        next(results)
        assert eventually(lambda: sum(archive.stored.values()) >= 1024)
        assert not eventually_more(lambda: len(drawn), 2000)
        assert sum(1 for _ in results) == 2999


def eventually_more(count, than: int) -> bool:
    """Look whether a count still grows beyond what it may."""
    moment = threading.Event()
    for _ in range(20):
        if count() > than:
            return True
        moment.wait(0.01)
    return False


# --- Iterables that take their time ---


def test_an_iterable_that_waits_for_an_earlier_result(face):
    archive = Archive(face)
    is_stored = threading.Event()

    def items():
        yield make_ct(instance="1.2.3.0")
        assert is_stored.wait(WAIT)
        yield make_ct(instance="1.2.3.1")

    for each in send_many(AE(), archive.address, items(), associations=2):
        assert each.is_stored
        is_stored.set()
    assert archive.stored == expected(2)


def test_the_program_has_enough_while_the_iterable_is_slow(face):
    archive = Archive(face)
    go_on, is_over = threading.Event(), threading.Event()

    def items():
        yield make_ct()
        go_on.wait(WAIT)
        is_over.set()

    results = send_many(AE(), archive.address, items(), associations=2)
    assert next(results).is_stored
    results.close(0.05)
    assert not is_over.is_set()
    go_on.set()
    assert is_over.wait(WAIT)
    assert eventually(lambda: not archive.server.active_associations)


# --- The ledger ---


def test_a_send_is_resumed(face, tmp_path):
    archive = Archive(face)
    ledger = tmp_path / "ledger"
    items = objects(60)
    with send_many(AE(), archive.address, items, window=4, ledger=ledger) as results:
        first = [next(results) for _ in range(20)]
    assert all(each.is_stored and not each.is_resumed for each in first)
    before = sum(archive.stored.values())
    assert 20 <= before < 60
    with ledger.open("ab") as file:  # as a crash may leave it
        file.write(b'{"uid": "1.2.3.59", "stat')
    results = list(send_many(AE(), archive.address, items, window=4, ledger=ledger))
    assert len(results) == 60
    assert all(each.is_stored for each in results)
    assert sum(each.is_resumed for each in results) == before
    assert archive.stored == expected(60)
    results = list(send_many(AE(), archive.address, items, window=4, ledger=ledger))
    assert all(each.is_resumed and each.status.Status == 0 for each in results)
    assert archive.stored == expected(60)


def test_what_was_not_stored_is_sent_again(face, tmp_path):
    archive = Archive(face)
    ledger = tmp_path / "ledger"
    archive.before = lambda event: (
        0xC000 if event.request.AffectedSOPInstanceUID[-1] < "5" else None
    )
    results = list(send_many(AE(), archive.address, objects(10), ledger=ledger))
    assert sum(each.is_stored for each in results) == 5
    archive.before = lambda event: None
    results = list(send_many(AE(), archive.address, objects(10), ledger=ledger))
    assert sum(each.is_resumed for each in results) == 5
    assert archive.stored == expected(10)


def test_a_ledger_of_another_send(face, tmp_path):
    archive = Archive(face)
    ledger = tmp_path / "ledger"
    list(send_many(AE(), archive.address, objects(1), ledger=ledger))
    with pytest.raises(LedgerError, match="OTHER"):
        send_many(AE(), archive.address, [], ae_title="OTHER", ledger=ledger)
    ledger.write_text("something else\n")
    with pytest.raises(LedgerError, match="no ledger"):
        send_many(AE(), archive.address, [], ledger=ledger)
