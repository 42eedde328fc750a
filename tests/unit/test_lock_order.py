"""Locks of the threaded face are taken in the order that `threaded.link` writes down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from dicomwire import AE, evt
from dicomwire.data.budgets import Budget
from dicomwire.session.entity import Entity
from dicomwire.session.serving import BaseServer
from dicomwire.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    Verification,
)
from dicomwire.threaded.connection import Connection
from dicomwire.threaded.link import Link
from dicomwire.threaded.port import ThreadedPort
from dicomwire.threaded.server import AssociationServer
from dicomwire.threaded.watcher import Watcher, watcher

RANKS: list[tuple[type[Any], str]] = [
    (Link, "_turn"),
    (ThreadedPort, "_sending"),
    (Link, "_writing"),
    (Connection, "_access"),
    (BaseServer, "_binding"),
    (AssociationServer, "_lock"),
    (Watcher, "_lock"),
    (Entity, "_lock"),
    (Budget, "lock"),
]
"""The order, from the first; of `Handlers` and `ThreadPool` there are too many to watch here."""


class LockNotes:
    """Notes which locks each thread holds when it takes another."""

    def __init__(self) -> None:
        self.taken: set[tuple[int, int]] = set()
        self._held = threading.local()

    def held(self) -> list[NotedLock]:
        """Return the locks that the calling thread holds, in the order of taking them."""
        if not hasattr(self._held, "locks"):
            self._held.locks = []
        locks: list[NotedLock] = self._held.locks
        return locks


class NotedLock:
    """A lock with a place in the order."""

    def __init__(self, notes: LockNotes, lock: Any, rank: int) -> None:
        self._notes = notes
        self._lock = lock
        self.rank = rank

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        held = self._notes.held()
        if self not in held:  # else it is only entered once more
            self._notes.taken |= {(other.rank, self.rank) for other in held}
        is_taken: bool = self._lock.acquire(*args, **kwargs)
        if is_taken:
            held.append(self)
        return is_taken

    def release(self) -> None:
        self._lock.release()
        held = self._notes.held()
        del held[len(held) - 1 - held[::-1].index(self)]

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> LockNotes:
    """LockNotes the locks of all that is made from now on, and that of the watcher."""
    notes = LockNotes()
    by_class: dict[type[Any], list[tuple[str, int]]] = {}
    for rank, (owner, name) in enumerate(RANKS):
        by_class.setdefault(owner, []).append((name, rank))
    for owner, locks in by_class.items():
        make = owner.__init__

        def init(self: Any, *args: Any, make: Any = make, locks: Any = locks, **kw: Any) -> None:
            make(self, *args, **kw)
            for name, rank in locks:
                setattr(self, name, NotedLock(notes, getattr(self, name), rank))

        monkeypatch.setattr(owner, "__init__", init)
    present, rank = watcher(), RANKS.index((Watcher, "_lock"))
    monkeypatch.setattr(
        present, "_lock", NotedLock(notes, present._lock, RANKS.index((Watcher, "_lock")))
    )
    return notes


def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    for number in range(50):
        match = Dataset()
        match.PatientID = str(number)
        yield 0xFF00, match


def image() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


def test_no_lock_is_taken_under_one_that_comes_later(notes: LockNotes) -> None:
    server_ae, ae = AE(), AE()
    for context in (Verification, CTImageStorage, PatientRootQueryRetrieveInformationModelFind):
        server_ae.add_supported_context(context)
        ae.add_requested_context(context)
    handlers = [(evt.EVT_C_STORE, lambda event: 0), (evt.EVT_C_FIND, find)]
    server = server_ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        port = server.server_address[1]
        query = Dataset()
        query.QueryRetrieveLevel, query.PatientID = "PATIENT", ""
        with ae.associate("127.0.0.1", port) as assoc:
            assert assoc.send_c_echo().Status == 0
            responses = assoc.send_c_find(query, PatientRootQueryRetrieveInformationModelFind)
            next(responses)
            assert assoc.send_c_store(image()).Status == 0
            responses.close()
            server.bind(evt.EVT_C_ECHO, lambda event: 0)
            assert [sent.status.Status for sent in assoc.send_c_stores([image()] * 3)] == [0] * 3
        other = ae.associate("127.0.0.1", port)
        other.abort()
    finally:
        server.shutdown()

    assert (RANKS.index((Link, "_turn")), RANKS.index((Link, "_writing"))) in notes.taken
    assert sorted(pair for pair in notes.taken if pair[0] > pair[1]) == []
