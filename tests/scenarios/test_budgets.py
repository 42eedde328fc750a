"""What all associations of an AE hold of datasets, in memory and in temporary files, is bounded."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from scenario import ABORTED, RELEASED, eventually, make_ct, state

from dicomwire import evt
from dicomwire.data.budgets import UNCOUNTED
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import PDataTF
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import Printer, Verification
from raw_peer import CT, RawPeer, context

SUPPORTED = [Verification, CT, FIND, Printer]
SIZE = 500_000


def of_size(size: int) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "PATIENT"
    ds.EncapsulatedDocument = bytes(size)
    return ds


def find(assoc, size: int) -> int:
    """Return the status of a query with an identifier of about `size` bytes."""
    ((status, _),) = assoc.send_c_find(of_size(size), FIND)
    return status.Status


HANDLERS = [
    (evt.EVT_C_FIND, lambda event: iter(())),
    (evt.EVT_N_SET, lambda event: (0x0000, None)),
]


def serve(face, *handlers, **settings):
    """Return an AE, and a server of it."""
    ae = face.ae("SCP", supported=SUPPORTED, **settings)
    return ae, face.serve([*HANDLERS, *handlers], ae=ae)


def ask(face, server, *handlers, **settings):
    return face.associate(server, handlers, contexts=SUPPORTED, **settings)


def begin_to_ask(server) -> RawPeer:
    """Return a peer that has sent most of a query."""
    peer = RawPeer.connect(server.server_address[1])
    peer.associate(context(1, FIND))
    query = Message(
        Command.C_FIND_RQ, MessageID=1, AffectedSOPClassUID=FIND, Priority=2, has_dataset=True
    )
    peer.send_message(query)
    peer.send(PDataTF([(1, 0, bytes(SIZE))]))
    return peer


def test_what_one_association_holds_another_cannot_have(face):
    ae, server = serve(face, memory_budget=SIZE)
    with ask(face, server) as assoc:
        assert find(assoc, SIZE) == 0x0000
        with begin_to_ask(server):
            assert eventually(lambda: ae.memory.held == SIZE - UNCOUNTED)
            assert find(assoc, SIZE) == 0xA700
            assert assoc.send_n_set(of_size(SIZE), Printer, "1.2.3")[0].Status == 0x0213
            assert find(assoc, 10_000) == 0x0000, "small requests are always served"
        assert eventually(lambda: not ae.memory.held)
        assert find(assoc, SIZE) == 0x0000
    assert state(assoc) == RELEASED


def test_objects_that_memory_has_no_room_for_go_to_files(face, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    paths = []
    handler = (evt.EVT_C_STORE, lambda event: paths.append(event.payload.path) or 0x0000)
    _, server = serve(face, handler, memory_budget=0)
    with ask(face, server) as assoc:
        assert assoc.send_c_store(make_ct(1000)).Status == 0x0000
        assert assoc.send_c_store(make_ct(SIZE)).Status == 0x0000
    assert [path and path.parent for path in paths] == [None, tmp_path]
    assert not list(tmp_path.iterdir())


def test_objects_that_there_is_no_room_for_in_files_either(face, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handler = (evt.EVT_C_STORE, lambda event: 0x0000)
    _, server = serve(face, handler, spool_budget=SIZE, spool_threshold=1000)
    with ask(face, server) as assoc:
        assert assoc.send_c_store(make_ct(2 * SIZE)).Status == 0xA700
        assert assoc.send_c_store(make_ct(SIZE)).Status == 0x0000
        assert assoc.send_c_store(make_ct(SIZE)).Status == 0x0000, "the first has been handled"
    assert state(assoc) == RELEASED
    assert not list(tmp_path.iterdir())


def test_what_has_been_handled_is_held_no_more(face):
    handlers = [
        (evt.EVT_C_STORE, lambda event: 0x0000),
        (evt.EVT_C_FIND, lambda event: [(0xFF00, of_size(SIZE))] * 3),
        (evt.EVT_N_GET, lambda event: (0x0000, of_size(SIZE))),
    ]
    ours = face.ae()
    ae, server = serve(face, *handlers, spool_threshold=1000)
    with ask(face, server, ae=ours) as assoc:
        assert len(list(assoc.send_c_find(of_size(SIZE), FIND))) == 4
        responses = assoc.send_c_find(of_size(SIZE), FIND)
        next(responses)
        responses.close()
        assert assoc.send_c_store(make_ct(SIZE)).Status == 0x0000
        assert assoc.send_n_get([], Printer, "1.2.3")[0].Status == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
        for each in (ours, ae):
            assert eventually(lambda each=each: not (each.memory.held or each.spool.held))


def test_a_response_that_there_is_no_room_for_ends_the_association(face):
    """There is nobody to be answered."""
    _, server = serve(face, (evt.EVT_C_FIND, lambda event: [(0xFF00, of_size(SIZE))]))
    with ask(face, server, memory_budget=0) as assoc:
        ((status, identifier),) = assoc.send_c_find(of_size(1), FIND)
        assert (len(status), identifier) == (0, None)
    assert state(assoc) == ABORTED
    assert "use up the budget" in str(assoc.failure)


@pytest.mark.parametrize("budget", [0, SIZE])
def test_new_settings_count_for_associations_there_are(face, budget):
    ae, server = serve(face)
    with ask(face, server) as assoc:
        ae.settings = type(ae.settings)(memory_budget=budget)
        assert find(assoc, SIZE // 2) == (0x0000 if budget else 0xA700)
