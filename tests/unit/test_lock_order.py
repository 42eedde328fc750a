"""Locks of the library are taken in the order that `threaded.link` writes down."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from certificates import Certificates
from dicomwire import AE, evt, send_many
from dicomwire.events import Handlers
from dicomwire.session.admission import AssociationLimits
from dicomwire.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    Verification,
)
from dicomwire.threaded import link, places, threads, watcher
from dicomwire.threaded.worker import WorkerServer
from dicomwire.tls import client_context, server_context
from dicomwire.workers.worker_end import CONNECTION, Order, SharedCounts, WorkerEnd
from lock_notes import PACKAGE, LockNotes, NotedLock, locks_of, note_locks

HERE = "127.0.0.1"
LINES = re.findall(r"^\d+\. (.+?)$(?=\n\d+\.|\n\n)", link.__doc__ or "", re.MULTILINE | re.DOTALL)
RANKS = {
    name: rank for rank, line in enumerate(LINES) for name in re.findall(r"`(\w+\.\w+)`", line)
}
"""The place of each lock in the order: the number of its line."""
OF_AN_ASSOCIATION = {"Link._turn", "ThreadedPort._sending", "Link._writing"}
"""Those of one may be held while another is used, in handlers of the program and for C-MOVE."""
CONTEXTS = [Verification, CTImageStorage, PatientRootQueryRetrieveInformationModelFind]


Locks = dict[tuple[str, int], str]


@pytest.fixture(scope="module")
def locks() -> Locks:
    """The locks of the library, without those of the applications and the archive."""
    return locks_of(
        [each for each in PACKAGE.rglob("*.py") if not {"apps", "node"} & set(each.parts)]
    )


def test_the_order_names_every_lock(locks: Locks) -> None:
    assert set(RANKS) == set(locks.values())


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, locks: Locks) -> LockNotes:
    """Note the locks of all that is made from now on, and those that the process has."""
    notes = note_locks(monkeypatch, locks)
    monkeypatch.setattr(threads, "_pool", threads.ThreadPool())
    present = watcher.watcher()
    noted = NotedLock(notes, present._lock, "Watcher._lock")
    monkeypatch.setattr(present, "_lock", noted)
    for room in places._rooms:
        monkeypatch.setattr(room, "lock", NotedLock(notes, room.lock, "Room.lock"))
    noted = NotedLock(notes, watcher._creation, "watcher._creation")
    monkeypatch.setattr(watcher, "_creation", noted)
    return notes


def entity() -> AE:
    ae = AE()
    for uid in CONTEXTS:
        ae.add_supported_context(uid)
        ae.add_requested_context(uid)
    return ae


def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    for number in range(50):
        match = Dataset()
        match.PatientID = str(number)
        yield 0xFF00, match


def image(number: int = 1, size: int = 2) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"1.2.{number}"
    ds.add_new("PixelData", "OW", bytes(size))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


def query() -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel, ds.PatientID = "PATIENT", ""
    return ds


HANDLERS: list[Any] = [(evt.EVT_C_STORE, lambda event: 0), (evt.EVT_C_FIND, find)]


def use_associations(folder: Path, *_: object) -> None:
    """Send messages of all kinds on one association; abort another while it waits."""
    waits, go_on = threading.Event(), threading.Event()

    def wait(event: evt.Event) -> int:
        waits.set()
        go_on.wait(10)
        return 0

    with entity().start_server((HERE, 0), block=False, evt_handlers=HANDLERS) as server:
        ae, port = entity(), server.server_address[1]
        with ae.associate(HERE, port) as assoc:
            assert assoc.send_c_echo().Status == 0
            responses = assoc.send_c_find(query(), PatientRootQueryRetrieveInformationModelFind)
            next(responses)
            assert assoc.send_c_store(image(size=100_000)).Status == 0
            responses.close()
            assert [sent.status.Status for sent in assoc.send_c_stores([image()] * 3)] == [0] * 3
            server.bind(evt.EVT_C_ECHO, wait)
            caller = threading.Thread(target=assoc.send_c_echo)
            caller.start()
            assert waits.wait(10)
            assoc.join(0)
            assoc.abort()
            go_on.set()
            caller.join(10)
        server.drain()


def send_files(folder: Path, *_: object) -> None:
    """Send objects on several associations, with a ledger, to a server that writes files."""
    options: dict[str, Any] = {"receive_to": folder}
    with entity().start_server((HERE, 0), block=False, **options) as server:
        items = [image(number) for number in range(20)]
        ledger = {"ledger": folder / "ledger", "associations": 2}
        with send_many(entity(), (HERE, server.server_address[1]), items, **ledger) as sending:
            assert all(sent.is_stored for sent in sending)
        server.drain()


def use_tls(folder: Path, certificates: Certificates) -> None:
    """Send an object over TLS, twice, since the second connection resumes the session."""
    serving, calling = server_context(*certificates.server), client_context(ca=certificates.ca)
    options: dict[str, Any] = {"ssl_context": serving, "evt_handlers": HANDLERS}
    with entity().start_server((HERE, 0), block=False, **options) as server:
        for _ in range(2):
            with entity().associate(
                HERE, server.server_address[1], tls_args=(calling, None)
            ) as assoc:
                assert assoc.send_c_store(image()).Status == 0
        server.drain()


def serve_as_a_worker(*_: object) -> None:
    """Be the worker process of a server, and end when the supervisor says so."""
    supervisor, channel = socket.socketpair()
    channel.setblocking(False)
    counts, ae, limits = SharedCounts(1, 10), entity(), AssociationLimits(10, 10, 10)
    with supervisor, channel, counts.file, socket.create_server((HERE, 0)) as listener:
        address = listener.getsockname()
        end = WorkerEnd(channel, counts, 0, limits, address)
        ae.use_counts(end)
        contexts, handlers = ae.supported_contexts, Handlers(HANDLERS)
        server = WorkerServer(ae, address, "", contexts, None, handlers, None, worker_end=end)
        running = threading.Thread(target=server.run)
        running.start()

        def hand_over() -> None:
            connection, _ = listener.accept()
            with connection:
                socket.send_fds(supervisor, [CONNECTION], [connection.fileno()])

        accepting = threading.Thread(target=hand_over)
        accepting.start()
        with entity().associate(HERE, address[1]) as assoc:
            accepting.join(10)
            supervisor.send(Order.STOP.value)
            assert assoc.send_c_echo().Status == 0
        supervisor.send(Order.QUIT.value)
        running.join(10)
        assert not running.is_alive()


def make_a_watcher(*_: object) -> None:
    """Make the watcher of a process, without its thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watcher, "_watcher", None)
        patch.setattr(threads, "_on_shortage", None)
        patch.setattr(watcher.Watcher, "start", lambda self: None)
        made = watcher.watcher()
        made._selector.close()
        made._wake_in.close()
        made._wake_out.close()


def test_no_lock_is_taken_under_one_that_comes_later(
    notes: LockNotes, tmp_path: Path, certificates: Certificates
) -> None:
    for use in (use_associations, send_files, use_tls, serve_as_a_worker, make_a_watcher):
        use(tmp_path, certificates)

    wrong = {(held, taken) for held, taken in notes.nested if RANKS[held] >= RANKS[taken]}
    assert wrong - {(each, each) for each in OF_AN_ASSOCIATION} == set()
    assert notes.taken == set(RANKS)
    assert ("Link._turn", "Link._writing") in notes.nested
