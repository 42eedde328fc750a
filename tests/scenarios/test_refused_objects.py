"""Objects that are refused, or that a sink of the program's own fails to take: nothing is left."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from pydicom.dataset import Dataset
from scenario import (
    NOTIFICATIONS,
    RELEASED,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
    state,
)

from dicomwire import Settings, aio, build_role, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.data.payloads import MemoryPayload
from dicomwire.protocol.items import (
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from dicomwire.protocol.pdu import Abort, ReleaseRP, ReleaseRQ
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelGet as GET
from dicomwire.threaded.server import MOST_NEGOTIATING
from raw_peer import (
    CT,
    IMPLICIT,
    VERIFICATION,
    WAIT,
    RawPeer,
    RawServer,
    context,
    message_pdu,
    store_request,
)

MR = "1.2.840.10008.5.1.4.1.1.4"
IMAGE = encode_dataset(make_ct(), IMPLICIT)


def status_of_store(server, abstract_syntax, sop_class):
    """Return how a C-STORE for `sop_class` on a context for `abstract_syntax` is answered."""
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, abstract_syntax))
        peer.send_message(store_request(sop_class=sop_class), IMAGE)
        response, _ = peer.receive_message()
        return response.Status


REFUSED = [(VERIFICATION, CT, 0x0211), (CT, MR, 0x0122)]


@pytest.mark.parametrize(("abstract_syntax", "sop_class", "status"), REFUSED)
def test_what_is_refused_replaces_no_file(face, tmp_path, abstract_syntax, sop_class, status):
    file = tmp_path / "1.2.3.4.dcm"
    file.write_bytes(b"a good one")
    server = face.serve(receive_to=lambda request: file)
    assert status_of_store(server, abstract_syntax, sop_class) == status
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"a good one"]


@pytest.mark.parametrize(("abstract_syntax", "sop_class", "status"), REFUSED)
def test_what_is_refused_is_not_spooled(
    face, tmp_path, monkeypatch, abstract_syntax, sop_class, status
):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)], spool_threshold=0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert status_of_store(server, abstract_syntax, sop_class) == status
    assert status_of_store(server, CT, CT) == 0xA700  # what is not refused cannot be kept there


def test_what_no_handler_takes_is_not_spooled(face, tmp_path, monkeypatch):
    server = face.serve(spool_threshold=0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert status_of_store(server, CT, CT) == 0xC211


def test_a_requestor_files_nothing_that_comes_without_the_role(face, tmp_path):
    with raw_acceptor(face, contexts=[GET, CT]) as (assoc, peer):
        assoc.receive_to = tmp_path
        peer.send_message(store_request(), IMAGE, on=3)
        response, _ = peer.receive_message()
        assert response.Status == 0x0122
    assert not list(tmp_path.iterdir())


@contextmanager
def storing_acceptor(face, *handlers, receive_to=None, **settings):
    """Give a requestor's association whose acceptor may store on it, and that acceptor."""
    roles = [build_role(CT, scu_role=True, scp_role=True)]
    with RawServer() as listener:
        call = partial(
            face.associate, listener.port, handlers, contexts=[CT], ext_neg=roles, **settings
        )
        with in_background(call) as begun:
            peer = listener.take()
            granted = [MaximumLengthNotification(16382), ImplementationClassUIDNotification("1.2")]
            peer.accept(
                user_information=[*granted, SCP_SCU_RoleSelectionNegotiation(CT, True, True)]
            )
        with peer:
            assoc = begun.result()
            assoc.receive_to = receive_to
            yield assoc, peer


def test_a_requestor_files_nothing_of_another_class(face, tmp_path):
    with storing_acceptor(face, receive_to=tmp_path) as (_, peer):
        peer.send_message(store_request(sop_class=MR), IMAGE)
        response, _ = peer.receive_message()
        assert response.Status == 0x0122
    assert not list(tmp_path.iterdir())


# --- After a release request ---


@pytest.mark.parametrize("begins_before", [False, True])
@pytest.mark.parametrize("is_filed", [False, True])
def test_an_object_that_comes_after_the_release_request_is_not_kept(
    face, tmp_path, monkeypatch, begins_before, is_filed
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    called = []
    handlers = [(evt.EVT_C_STORE, called.append)]
    receive_to = tmp_path if is_filed else None
    with storing_acceptor(face, *handlers, receive_to=receive_to, spool_threshold=0) as (
        assoc,
        peer,
    ):
        packed = message_pdu(1, store_request(), IMAGE)
        if begins_before:
            peer.send(packed[:-1])
            assert eventually(lambda: list(tmp_path.iterdir()))
        with in_background(assoc.release) as releasing:
            assert isinstance(peer.receive(), ReleaseRQ)
            peer.send(packed[-1:] if begins_before else packed, ReleaseRP())
            releasing.result(WAIT)
    assert state(assoc) == RELEASED
    assert not list(tmp_path.iterdir())
    assert not called


# --- When a handler ends it ---


def test_what_came_is_let_go_of_when_a_handler_that_is_told_of_it_aborts(
    face, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handlers = [
        (evt.EVT_C_STORE, lambda event: 0),
        (evt.EVT_DIMSE_RECV, lambda event: event.assoc.abort()),
    ]
    server = face.serve(handlers, spool_threshold=0)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, CT))
        peer.send_message(store_request(), IMAGE)
        assert isinstance(peer.receive(), Abort)
    assert face.is_quiet(server)
    assert not list(tmp_path.iterdir())


def leave(event):
    raise SystemExit


@pytest.mark.threaded_only("on an event loop it ends the loop")
@pytest.mark.parametrize("event", NOTIFICATIONS, ids=lambda event: event.name)
def test_a_handler_that_exits_ends_its_association_and_leaves_nothing(
    face, tmp_path, monkeypatch, caplog, event
):
    monkeypatch.setattr("dicomwire.threaded.threads.IDLE_TIME", 0.05)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handlers = [(evt.EVT_C_STORE, lambda event: 0), (event, leave)]
    server = face.serve(handlers, spool_threshold=0)
    for _ in range(MOST_NEGOTIATING + 1):
        with RawPeer.connect(server.server_address[1]) as peer, suppress(EOFError, OSError):
            peer.associate(context(1, CT))
            peer.send(message_pdu(1, store_request(), IMAGE), ReleaseRQ())
            peer.receive_bytes(1 << 20)  # all there is, until it ends
    assert face.is_quiet(server)
    assert face.leftovers(server) == []
    assert not list(tmp_path.iterdir())
    server.unbind(event, leave)
    assert status_of_store(server, CT, CT) == 0x0000
    caplog.clear()


def test_a_handler_that_exits_ends_the_loop_and_leaves_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handlers = [(evt.EVT_C_STORE, lambda event: 0), (evt.EVT_DIMSE_RECV, leave)]

    async def serve_and_store():
        ae = aio.AE("SCP", Settings(spool_threshold=0))
        ae.add_supported_context(CT)
        ae.add_requested_context(CT)
        server = await ae.start_server(("127.0.0.1", 0), evt_handlers=handlers)
        assoc = await ae.associate("127.0.0.1", server.server_address[1])
        await assoc.send_c_store(make_ct())

    with pytest.raises(SystemExit):
        asyncio.run(serve_and_store())
    assert not list(tmp_path.iterdir())
    caplog.clear()


def test_a_file_is_let_go_of_when_who_chooses_it_aborts(face, tmp_path, monkeypatch):
    monkeypatch.setattr("dicomwire.threaded.threads.IDLE_TIME", 0.05)

    def choose(request):
        server.active_associations[0].abort()
        return tmp_path / "file.dcm"

    server = face.serve(receive_to=choose)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, CT))
        peer.send_message(store_request(), IMAGE)
        assert isinstance(peer.receive(), Abort)
    assert face.is_quiet(server)
    assert face.leftovers(server) == []  # the thread that had the file has ended
    assert not list(tmp_path.iterdir())


# --- Sinks of the program's own ---


class FailingSink:
    """Keeps nothing, and fails at one of its methods."""

    def __init__(self, fails):
        self._fails = fails
        self.calls = []

    def _call(self, name):
        self.calls.append(name)
        if name in self._fails:
            raise ZeroDivisionError(f"on purpose, in {name}")

    def write(self, chunks):
        self._call("write")

    def finish(self):
        self._call("finish")
        return MemoryPayload(bytearray())

    def discard(self):
        self._call("discard")


FAILURES = [("write",), ("finish",), ("write", "discard")]


@pytest.mark.parametrize("fails", FAILURES, ids="+".join)
def test_a_sink_that_fails_fails_its_object_alone(face, caplog, fails):
    sinks = []

    def receive_to(request):
        sinks.append(FailingSink(fails if not sinks else ()))
        return sinks[-1]

    server = face.serve(receive_to=receive_to)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0xC211
        assert assoc.send_c_store(make_ct()).Status == 0x0000
    assert state(assoc) == RELEASED
    assert [sink.calls[-1] for sink in sinks] == ["discard", "finish"]
    assert any("ZeroDivisionError" in str(each.exc_info) for each in caplog.records)


@pytest.mark.parametrize("fails", FAILURES, ids="+".join)
def test_a_sink_of_a_requestor_that_fails_fails_its_object_alone(face, fails):
    def get(event):
        yield 2
        yield 0xFF00, make_ct(instance="1.2.1")
        yield 0xFF00, make_ct(instance="1.2.2")

    ae = face.ae("SCP", supported=[GET])
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    server = face.serve([(evt.EVT_C_GET, get)], ae=ae)
    ds = Dataset()
    ds.PatientID = "1"
    roles = [build_role(CT, scp_role=True)]
    with face.associate(server, contexts=[GET, CT], ext_neg=roles) as assoc:
        sinks = [FailingSink(fails), FailingSink(())]
        assoc.receive_to = lambda request: sinks.pop(0)
        *_, (status, _) = assoc.send_c_get(ds, GET)
        assert status.NumberOfFailedSuboperations == 1
        assert status.NumberOfCompletedSuboperations == 1
    assert state(assoc) == RELEASED


def test_a_payload_that_cannot_be_discarded_harms_nobody(face, monkeypatch):
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)])

    def fail(self):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(MemoryPayload, "discard", fail)
    with face.associate(server) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0x0000
        assert assoc.send_c_store(make_ct()).Status == 0x0000
    assert state(assoc) == RELEASED
