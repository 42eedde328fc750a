"""A handler that is told of the peer's A-RELEASE-RQ may still abort: then nothing is released."""

from __future__ import annotations

from typing import Any

import pytest
from scenario import ABORTED, Recorder, in_background, raw_acceptor, state

from dicomwire import evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.pdu import Abort, PDataTF, ReleaseRQ
from raw_peer import VERIFICATION, WAIT, RawPeer, message_pdu

ENDS = (evt.EVT_ABORTED, evt.EVT_RELEASED)
ECHO = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)


def abort_over_pdu(event: evt.Event) -> None:
    if isinstance(event.pdu, ReleaseRQ):
        event.assoc.abort()


def abort_over_primitive(event: evt.Event) -> None:
    if isinstance(event.primitive, ReleaseRQ):
        event.assoc.abort()


def abort_over_transition(event: evt.Event) -> None:
    if event.fsm_event == "Evt12":
        event.assoc.abort()


PDU = (evt.EVT_PDU_RECV, abort_over_pdu)
PRIMITIVE = (evt.EVT_ACSE_RECV, abort_over_primitive)
TRANSITION = (evt.EVT_FSM_TRANSITION, abort_over_transition)
over = pytest.mark.parametrize(
    "binding", [PDU, PRIMITIVE, TRANSITION], ids=["PDU", "primitive", "transition"]
)


def has_aborted(peer: RawPeer, log: Recorder) -> bool:
    """Whether the peer gets an A-ABORT and no A-RELEASE-RP, and that is what is told of."""
    pdu: Any = peer.receive()
    while isinstance(pdu, PDataTF):
        pdu = peer.receive()
    ended = log.wait_for(evt.EVT_ABORTED).assoc
    ended.join(WAIT)
    return isinstance(pdu, Abort) and state(ended) == ABORTED and log.names == ["ABORTED"]


@over
@pytest.mark.parametrize("before", [b"", message_pdu(1, ECHO)], ids=["idle", "after a request"])
def test_by_the_acceptor(face, binding, before) -> None:
    log = Recorder(*ENDS)
    server = face.serve([binding, *log.handlers])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate()
        peer.send(before, ReleaseRQ())
        assert has_aborted(peer, log)


@over
def test_by_the_requestor(face, binding) -> None:
    log = Recorder(*ENDS)
    with raw_acceptor(face, binding, *log.handlers) as (_, peer):
        peer.send(ReleaseRQ())
        assert has_aborted(peer, log)


@over
def test_by_the_requestor_that_waits_for_a_response(face, binding) -> None:
    log = Recorder(*ENDS)
    with raw_acceptor(face, binding, *log.handlers) as (assoc, peer):
        with in_background(assoc.send_c_echo) as echo:
            peer.receive_message()
            peer.send(ReleaseRQ())
            assert has_aborted(peer, log)
        assert "Status" not in echo.result()


@pytest.mark.parametrize("binding", [PDU, TRANSITION], ids=["PDU", "transition"])
def test_by_the_requestor_that_asks_for_a_release_itself(face, binding) -> None:
    """The protocol agrees to a release that meets ours; no primitive tells of it before."""
    log = Recorder(*ENDS)
    with (
        raw_acceptor(face, binding, *log.handlers) as (assoc, peer),
        in_background(assoc.release),
    ):
        assert isinstance(peer.receive(), ReleaseRQ)
        peer.send(ReleaseRQ())
        assert has_aborted(peer, log)
