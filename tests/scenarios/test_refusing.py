"""Requests that the program refuses by their command: nothing of their datasets is kept."""

from __future__ import annotations

from pydicom.dataset import Dataset
from scenario import RELEASED, Recorder, make_ct, state

from dicomwire import evt
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import Printer
from raw_peer import CT, VERIFICATION

SUPPORTED = [VERIFICATION, CT, FIND, Printer]


def refusing(refuse):
    """Return a handler that has an association of a server refuse requests."""

    def accepted(event):
        event.assoc.refuse = refuse

    return evt.EVT_ACCEPTED, accepted


def large():
    ds = Dataset()
    ds.QueryRetrieveLevel = "PATIENT"
    ds.EncapsulatedDocument = bytes(100_000)
    return ds


def ask(face, *handlers, receive_to=None):
    """Return an association with a server that has no room for anything large."""
    server = face.serve(
        handlers, supported=SUPPORTED, receive_to=receive_to, memory_budget=0, spool_budget=0
    )
    return face.associate(server, contexts=SUPPORTED)


def test_nothing_of_a_refused_request_is_kept(face):
    asked = Recorder(evt.EVT_C_FIND)
    commands = []
    refused = refusing(lambda request: commands.append(request.name) or 0x0124)
    with ask(face, refused, (evt.EVT_C_FIND, asked), (evt.EVT_C_STORE, asked)) as assoc:
        ((status, identifier),) = assoc.send_c_find(large(), FIND)
        assert (status.Status, identifier) == (0x0124, None)
        assert assoc.send_n_set(large(), Printer, "1.2.3")[0].Status == 0x0124
        assert assoc.send_c_store(make_ct(100_000)).Status == 0x0124
        assert assoc.send_c_echo().Status == 0x0124
    assert state(assoc) == RELEASED
    assert commands == ["C-FIND-RQ", "N-SET-RQ", "C-STORE-RQ", "C-ECHO-RQ"]
    assert not asked.events


def test_a_refused_object_is_filed_nowhere(face, tmp_path):
    places = []

    def receive_to(request):
        places.append(request)
        return tmp_path / "filed.dcm"

    with ask(face, refusing(lambda request: 0x0124), receive_to=receive_to) as assoc:
        assert assoc.send_c_store(make_ct()).Status == 0x0124
    assert state(assoc) == RELEASED
    assert not places


def test_what_is_not_refused_is_served(face):
    with ask(face, refusing(lambda request: None)) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


def test_a_refusal_may_say_more(face):
    status = Dataset()
    status.Status = 0x0124
    status.ErrorComment = "not today"
    with ask(face, refusing(lambda request: status)) as assoc:
        ((answer, _),) = assoc.send_c_find(large(), FIND)
        assert (answer.Status, answer.ErrorComment) == (0x0124, "not today")


def test_a_function_that_cannot_tell_refuses(face, caplog):
    def refuse(request):
        raise ZeroDivisionError

    with ask(face, refusing(refuse)) as assoc:
        assert assoc.send_c_echo().Status == 0x0110
        assert assoc.is_established
    assert any("`refuse` of the program failed" in text for text in caplog.messages)
