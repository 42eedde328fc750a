"""How objects look to people: `repr`, and what `dir` lists. Copies of failures."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dicomwire import AE, Association, aio, errors, evt
from dicomwire.dimse_primitives import Command, Message
from dicomwire.sop_class import Verification


@pytest.fixture
def ae() -> Any:
    ae = AE("ARCHIVE")
    ae.add_supported_context(Verification)
    ae.add_requested_context(Verification)
    yield ae
    ae.shutdown()


@pytest.fixture
def server(ae: AE) -> Any:
    return ae.start_server(("127.0.0.1", 0), block=False)


def test_how_an_association_looks(ae: AE, server: Any) -> None:
    port = server.server_address[1]
    association = ae.associate("127.0.0.1", port, ae_title="ARCHIVE")
    assert repr(association) == f"<Association to ARCHIVE@127.0.0.1:{port}, established>"
    association.release()
    assert repr(association) == f"<Association to ARCHIVE@127.0.0.1:{port}, released>"


def test_how_an_association_that_failed_looks(ae: AE) -> None:
    text = repr(ae.associate("127.0.0.1", 1))
    assert text.startswith("<Association to ANY-SCP@127.0.0.1:1, aborted: cannot connect: ")


def test_how_an_acceptor_and_its_events_look(ae: AE, server: Any) -> None:
    seen: list[str] = []
    server.bind(evt.EVT_C_ECHO, lambda event: seen.append(repr(event)) or 0)
    with ae.associate("127.0.0.1", server.server_address[1]) as association:
        association.send_c_echo(7)
    (text,) = seen
    assert text.startswith("<EVT_C_ECHO of <Association from ARCHIVE@127.0.0.1:")
    assert text.endswith(
        ", established>: <C-ECHO-RQ MessageID=7, AffectedSOPClassUID='1.2.840.10008.1.1'>>"
    )


def test_how_an_association_without_a_peer_looks(ae: AE) -> None:
    assert repr(Association(ae, "requestor")) == "<Association to ?@?, not established>"


def test_how_an_ae_and_its_server_look(ae: AE, server: Any) -> None:
    text = "<AE ARCHIVE: 1 contexts to request, 1 to support, 0 associations>"
    assert repr(ae) == text
    where = f"<AssociationServer ARCHIVE on 127.0.0.1:{server.server_address[1]}"
    assert repr(server) == f"{where}, 0 associations>"
    server.shutdown()
    assert repr(server) == f"{where}, closed>"


def test_a_message_shows_only_what_is_set() -> None:
    response = Message(
        Command.C_STORE_RSP, MessageIDBeingRespondedTo=3, Status=0xA700, ErrorComment="full\n"
    )
    text = "<C-STORE-RSP MessageIDBeingRespondedTo=3, Status=0xA700, ErrorComment='full\\n'>"
    assert repr(response) == text
    assert repr(Message(Command.C_FIND_RQ, MessageID=1, has_dataset=True)) == (
        "<C-FIND-RQ MessageID=1, with a dataset>"
    )


OBJECTS = [
    AE(),
    aio.AE(),
    Association(AE(), "requestor"),
    evt.Event(None, evt.EVT_C_ECHO),
]


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
def test_dir_lists_what_programs_use(thing: Any) -> None:
    names = dir(thing)
    assert not [name for name in names if name[0] == "_" and not name.startswith("__")]
    assert not {"library_names", *thing.library_names.split()} & set(names)


def test_dir_lists_what_a_subclass_adds() -> None:
    class Own(Association):
        def send_report(self) -> None: ...

    listed = dir(Own(AE(), "requestor"))
    assert {"send_report", "send_c_store", "release", "failure"} <= set(listed)


FAILURES = [
    errors.AssociationFailure("lost", stage="data", peer="a:1"),
    errors.AssociationRejected("no", 1, 2, 3, "a:1"),
    errors.AssociationAborted("no", source=2, reason=1, by_peer=True, peer="a:1"),
    errors.AssociationTimeout("slow", stage="idle"),
    errors.ConnectionLost("gone", stage="connect", peer="a:1"),
    errors.TLSFailure("bad", fault=errors.TLSFault.OTHER_HOST, by_peer=True, peer="a:1"),
    errors.RemoteProtocolError("bad", errors.AbortReason.UNEXPECTED_PDU),
    errors.LocalProtocolError("not now"),
]


def pickled(failure: Any) -> Any:
    return pickle.loads(pickle.dumps(failure))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_failure_can_be_copied_and_sent_to_another_process(failure: Any, again: Any) -> None:
    other = again(failure)
    assert type(other) is type(failure)
    assert str(other) == str(failure)
    assert vars(other) == vars(failure)


def test_events_can_be_pickled() -> None:
    for event in (evt.EVT_C_STORE, evt.EVT_RELEASED):
        other = pickle.loads(pickle.dumps(event))
        assert other == event
        assert type(other) is type(event)
