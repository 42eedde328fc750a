"""A request that is equal to an earlier one gets the same answer, and the same association."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from scenario import Face, Recorder, eventually

from dicomwire import build_context, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from dicomwire.protocol.pdu import AssociateRQ, PDUType, ReleaseRQ
from raw_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, RawPeer, context, request_pdu

MR = "1.2.840.10008.5.1.4.1.1.4"
PRIVATE = "1.2.3.4.5.6.7"
ABSTRACT = (VERIFICATION, CT, MR, PRIVATE)
SYNTAXES = (IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.4.50", "1.2.3.4")
ITEMS = (
    MaximumLengthNotification(4096),
    MaximumLengthNotification(0),
    ImplementationVersionNameNotification("OTHER"),
    AsynchronousOperationsWindowNegotiation(8, 1),
    AsynchronousOperationsWindowNegotiation(0, 0),
    SCP_SCU_RoleSelectionNegotiation(CT, True, True),
    SCP_SCU_RoleSelectionNegotiation(MR, False, True),
    SOPClassExtendedNegotiation(MR, b"\1\0"),
    SOPClassCommonExtendedNegotiation(PRIVATE, "1.2.840.10008.4.2", [CT]),
    UserIdentityNegotiation(2, True, b"user", b"passcode"),
)
"""What a request may propose beside contexts; of equal kinds, the first counts."""


def serve(face: Face, handlers=(), **settings):
    ae = face.ae("SCP", maximum_associations=100, **settings)
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT], scu_role=True, scp_role=True)
    ae.add_supported_context(MR, IMPLICIT)
    return face.serve(handlers, ae=ae)


def any_request(choice: random.Random) -> AssociateRQ:
    """Return a request with any contexts and items, some of which are invalid."""
    contexts = [
        context(2 * number + 1, choice.choice(ABSTRACT), *choice.sample(SYNTAXES, 2))
        for number in range(choice.randint(1, 4))
    ]
    if choice.random() < 0.2:
        contexts[-1]._context_id = 4  # no context may have an even id
    return request_pdu(
        *contexts,
        user_information=choice.sample(ITEMS, choice.randint(0, 5)),
        called_ae_title=choice.choice(("ANY-SCP", "SCP")),
        calling_ae_title=choice.choice(("RAW", "OTHER")),
    )


def end_of(end):
    """Return what a program sees of an end of an association."""
    return (
        end.primitive,
        end.ae_title,
        end.address,
        end.user_information,
        end.maximum_length,
        end.implementation_class_uid,
        end.implementation_version_name,
        end.asynchronous_operations,
        end.role_selection,
        end.sop_class_extended,
        end.sop_class_common_extended,
        end.user_identity,
        end.get_contexts("supported" if end.is_acceptor else "pcdl"),
        end.writeable,
    )


def seen(association):
    """Return what a program sees of an association."""
    return (
        association.is_established,
        association.accepted_contexts,
        association.rejected_contexts,
        association.operations_window,
        association.acceptor.accepted_common_extended,
        end_of(association.requestor),
        end_of(association.acceptor),
    )


def asked(server, data: bytes) -> tuple[bytes, object, bytes]:
    """Return the answer to a request, the association, and the answer to its release."""
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(data)
        answer = peer.receive()
        if answer.pdu_type != PDUType.ASSOCIATE_AC:
            return answer.encode(), None, b""
        assert eventually(lambda: len(server.active_associations) == 1)
        (association,) = server.active_associations
        assert eventually(lambda: association.is_established)
        found = seen(association)
        peer.send(ReleaseRQ())
        released = peer.receive()
    assert eventually(lambda: not server.active_associations)
    return answer.encode(), found, released.encode()


@pytest.mark.parametrize("seed", range(12))
def test_any_request_is_answered_twice_in_the_same_way(face: Face, seed: int) -> None:
    server = serve(face, operations_window=4, unrestricted_storage=seed % 2 == 1)
    data = any_request(random.Random(seed)).encode()
    assert asked(server, data) == asked(server, data) == asked(server, data)


def counted(face: Face, monkeypatch: pytest.MonkeyPatch) -> list[AssociateRQ]:
    """Return a list of the requests that will be negotiated."""
    from dicomwire.session import acceptance

    negotiated: list[AssociateRQ] = []
    answer_request = acceptance.answer_request

    async def count(port, request, *others):
        negotiated.append(request)
        return await answer_request(port, request, *others)

    monkeypatch.setattr(acceptance, "answer_request", count)
    return negotiated


def test_an_equal_request_is_not_negotiated_again(face: Face, monkeypatch) -> None:
    server, negotiated = serve(face), counted(face, monkeypatch)
    for request in (request_pdu(), request_pdu(), request_pdu(calling_ae_title="OTHER")):
        asked(server, request.encode())
    assert len(negotiated) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda server: setattr(server.ae, "maximum_pdu_size", 32768),
        lambda server: setattr(server.ae, "require_called_aet", True),
        lambda server: setattr(server.ae, "require_calling_aet", ["OTHER"]),
        lambda server: setattr(server.ae, "implementation_version_name", "NEW"),
        lambda server: setattr(server, "contexts", [build_context(MR)]),
        lambda server: setattr(
            server.ae, "settings", replace(server.ae.settings, unrestricted_storage=True)
        ),
    ],
)
def test_what_is_changed_applies_to_the_next_request(face: Face, change) -> None:
    server = serve(face)
    data = request_pdu(context(1, CT), context(3, PRIVATE)).encode()
    before = [asked(server, data)[0] for _ in range(2)]
    change(server)
    after = [asked(server, data)[0] for _ in range(2)]
    assert before[0] == before[1] != after[0] == after[1]


@pytest.mark.parametrize(
    "event", [evt.EVT_REQUESTED, evt.EVT_ESTABLISHED, evt.EVT_PDU_RECV, evt.EVT_CONN_OPEN]
)
def test_a_handler_hears_of_each_request(face: Face, event) -> None:
    server, recorder = serve(face), Recorder()
    for _ in range(2):
        asked(server, request_pdu().encode())
    server.bind(event, recorder)
    for _ in range(2):
        asked(server, request_pdu().encode())
    assert len(recorder.events) >= 2


def test_no_passcode_is_remembered(face: Face, monkeypatch) -> None:
    server, negotiated = serve(face), counted(face, monkeypatch)
    identity = UserIdentityNegotiation(2, False, b"user", b"passcode")
    for _ in range(2):
        asked(server, request_pdu(user_information=[identity]).encode())
    assert len(negotiated) == 2
    assert not server._agreements._known


def test_the_limit_applies_to_equal_requests(face: Face) -> None:
    server = face.serve(maximum_associations=1)
    for _ in range(2):
        asked(server, request_pdu().encode())
    with RawPeer.connect(server.server_address[1]) as first:
        assert first.associate().pdu_type == 2
        with RawPeer.connect(server.server_address[1]) as second:
            assert second.associate().pdu_type == 3
    assert eventually(lambda: not server.active_associations)
    assert asked(server, request_pdu().encode())[1] is not None


def test_a_message_in_the_packet_of_an_equal_request_is_answered(face: Face) -> None:
    server = serve(face)
    echo = Message(Command.C_ECHO_RQ, MessageID=7, AffectedSOPClassUID=VERIFICATION)
    for _ in range(3):
        with RawPeer.connect(server.server_address[1]) as peer:
            peer.associate()
            peer.send_message(echo)
            assert peer.receive_message()[0].Status == 0x0000
            peer.send(ReleaseRQ())
            assert peer.receive().pdu_type == 6


def test_what_one_program_changes_no_other_association_sees(face: Face) -> None:
    server = serve(face)
    asked(server, request_pdu().encode())
    for _ in range(2):
        with RawPeer.connect(server.server_address[1]) as peer:
            assert peer.associate().pdu_type == 2
            assert eventually(lambda: len(server.active_associations) == 1)
            (association,) = server.active_associations
            ours, theirs = association.acceptor, association.requestor
            assert ours.primitive.presentation_contexts[0].result == 0
            assert theirs.primitive.calling_ae_title == "RAW"
            ours.primitive.presentation_contexts[0].result = 3
            theirs.primitive.calling_ae_title = "CHANGED"
            theirs.primitive.user_information.clear()
            peer.send(ReleaseRQ())
            peer.receive()
        assert eventually(lambda: not server.active_associations)
