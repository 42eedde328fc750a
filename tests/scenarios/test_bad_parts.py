"""One part of a request or message that is wrong: that part is refused, and the rest goes on."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile import (
    COMMAND,
    LAST,
    command_set,
    data_pdu,
    element,
    item,
    pdv,
    us,
)
from pydicom.dataset import Dataset
from scenario import ESTABLISHED, in_background, raw_acceptor, raw_answer, state

from dicomwire import build_context, evt
from dicomwire.protocol.command import Command, Message, encode_command
from dicomwire.protocol.pdu import AssociateAC, ReleaseRP, ReleaseRQ
from dicomwire.sop_class import (
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from raw_peer import (
    CT,
    IMPLICIT,
    VERIFICATION,
    RawPeer,
    accept_pdu,
    context,
    request_pdu,
)

GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
LONG = b"1.2." + b"3" * 62
"""A UID of 66 characters."""


def proposed(number: int, *sub_items: bytes) -> bytes:
    return item(0x20, bytes((number, 0, 0, 0)) + b"".join(sub_items))


def abstract(uid: str | bytes) -> bytes:
    return item(0x30, uid.encode() if isinstance(uid, str) else uid)


SYNTAX = item(0x40, IMPLICIT.encode())


def request(*contexts: bytes, **changes: Any) -> bytes:
    """An association request with the items `contexts`, and a well-formed one with the id 99."""
    whole = request_pdu(context(99, VERIFICATION), **changes).encode()
    good = proposed(99, abstract(VERIFICATION), SYNTAX)
    body = whole[6:].replace(good, b"".join(contexts) + good)
    return struct.pack(">BxI", 1, len(body)) + body


# --- Association requests and answers ---


@pytest.mark.parametrize("unrestricted", [False, True], ids=["restricted", "unrestricted"])
@pytest.mark.parametrize(
    ("contexts", "result"),
    [
        ([proposed(2, abstract(CT), SYNTAX)], (2, 2)),
        ([proposed(0, abstract(CT), SYNTAX)], (0, 2)),
        ([proposed(1, abstract(CT), SYNTAX), proposed(1, abstract(VERIFICATION), SYNTAX)], (1, 2)),
        ([proposed(1, SYNTAX)], (1, 3)),
        ([proposed(1, abstract(b""), SYNTAX)], (1, 3)),
        ([proposed(1, abstract(b"1.2.\xe4"), SYNTAX)], (1, 3)),
        ([proposed(1, abstract(LONG), SYNTAX)], (1, 3)),
        ([proposed(1, abstract(CT), item(0x40, b"1.\xe4"))], (1, 4)),
        ([proposed(1, abstract(CT))], (1, 4)),
        ([proposed(1, abstract(CT), item(0x40, LONG), SYNTAX)], (1, 0)),
    ],
    ids=[
        "even id",
        "zero id",
        "repeated id",
        "no abstract syntax",
        "empty abstract syntax",
        "abstract syntax beyond ASCII",
        "long abstract syntax",
        "transfer syntax beyond ASCII",
        "no transfer syntax",
        "one long transfer syntax",
    ],
)
def test_a_malformed_context_is_rejected_and_the_others_serve(
    face, contexts, result, unrestricted
) -> None:
    server = face.serve(unrestricted_storage=unrestricted)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(request(*contexts))
        answer = peer.receive()
        assert isinstance(answer, AssociateAC)
        results = [(each.context_id, each.result) for each in answer.presentation_contexts]
        assert results == [result, (99, 0)]
        echo = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
        peer.send_message(echo, on=99)
        assert peer.receive_message()[0].Status == 0x0000
        peer.send(ReleaseRQ())
        assert isinstance(peer.receive(), ReleaseRP)


@pytest.mark.parametrize("uid", [LONG, b"1.2.\xe4"], ids=["long", "beyond ASCII"])
def test_a_uid_of_user_information_that_cannot_be_read_names_nothing(face, uid) -> None:
    server = face.serve()
    implementation = item(0x52, b"1.2.3")
    role = item(0x54, struct.pack(">H", len(uid)) + uid + b"\1\1")
    whole = request()[6:]
    before, _, after = whole.partition(
        item(0x50, item(0x51, struct.pack(">I", 16382)) + implementation)
    )
    body = before + item(0x50, item(0x52, uid) + role) + after
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(struct.pack(">BxI", 1, len(body)) + body)
        assert isinstance(peer.receive(), AssociateAC)


def test_an_application_context_that_cannot_be_read_is_rejected(face) -> None:
    server = face.serve()
    body = request()[6:].replace(
        item(0x10, b"1.2.840.10008.3.1.1.1"), item(0x10, b"1.2.\xe4.10008.3.1.1.1")
    )
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(struct.pack(">BxI", 1, len(body)) + body)
        rejection = peer.receive()
        assert (rejection.result, rejection.source, rejection.diagnostic) == (1, 1, 2)


def test_an_accepted_context_without_transfer_syntax_counts_as_rejected(face, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with raw_answer(face, contexts=[CT, VERIFICATION]) as (begun, peer):
        answer = accept_pdu(request_pdu(context(1, CT), context(3, VERIFICATION))).encode()
        accepted = item(0x21, bytes((1, 0, 0, 0)) + item(0x40, IMPLICIT.encode()))
        body = answer[6:].replace(accepted, item(0x21, bytes((1, 0, 0, 0))))
        assert len(body) < len(answer) - 6
        peer.send(struct.pack(">BxI", 2, len(body)) + body)
        assoc = begun.result()
        assert [each.abstract_syntax for each in assoc.accepted_contexts] == [VERIFICATION]
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
        assert [(each.abstract_syntax, each.result) for each in assoc.rejected_contexts] == [
            (CT, 4)
        ]
        assoc.abort()


# --- Requests ---


def padded(uid: str | bytes) -> bytes:
    raw = uid.encode() if isinstance(uid, str) else uid
    return raw + b"\0" * (len(raw) % 2)


def asked(command: Command, *elements: bytes, dataset: bool = True) -> bytes:
    """The command set of a request with the Message ID 5."""
    return command_set(
        us(0x0100, command),
        us(0x0110, 5),
        us(0x0700, 0),
        us(0x0800, 1 if dataset else 0x0101),
        *elements,
    )


@contextmanager
def requesting(face, sop_class: str, **options: Any) -> Iterator[tuple[RawPeer, list[evt.Event]]]:
    """Give a raw requestor of `sop_class`, in the context 1, and what handlers are asked."""
    told: list[evt.Event] = []
    handlers = [
        (event, lambda event: told.append(event) or 0)
        for event in vars(evt).values()
        if isinstance(event, evt.InterventionEvent) and event.name.startswith(("EVT_C", "EVT_N"))
    ]
    server = face.serve(handlers, supported=[sop_class, VERIFICATION], **options)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, sop_class), context(3, VERIFICATION))
        yield peer, told
        echo = Message(Command.C_ECHO_RQ, MessageID=6, AffectedSOPClassUID=VERIFICATION)
        peer.send_message(echo, on=3)
        assert peer.receive_message()[0].Status == 0x0000


CASES = {
    "C-STORE, long instance UID": (
        CT, Command.C_STORE_RQ, [element(0x0002, padded(CT)), element(0x1000, LONG)], 0x0117,
    ),
    "C-STORE, no instance UID": (CT, Command.C_STORE_RQ, [element(0x0002, padded(CT))], 0x0117),
    "C-STORE, two instance UIDs": (
        CT, Command.C_STORE_RQ,
        [element(0x0002, padded(CT)), element(0x1000, b"1.2\\1.3\0")], 0x0117,
    ),
    "C-STORE, no class UID": (CT, Command.C_STORE_RQ, [element(0x1000, b"1.2.3\0")], 0x0117),
    "C-GET, long class UID": (GET, Command.C_GET_RQ, [element(0x0002, LONG)], 0x0117),
    "C-MOVE, no destination": (MOVE, Command.C_MOVE_RQ, [element(0x0002, padded(MOVE))], 0xA801),
    "C-MOVE, long destination": (
        MOVE, Command.C_MOVE_RQ,
        [element(0x0002, padded(MOVE)), element(0x0600, b"A" * 18)], 0xA801,
    ),
    "N-SET, no instance UID": (
        ModalityPerformedProcedureStep, Command.N_SET_RQ,
        [element(0x0003, padded(ModalityPerformedProcedureStep))], 0x0117,
    ),
    "N-CREATE, long instance UID": (
        ModalityPerformedProcedureStep, Command.N_CREATE_RQ,
        [element(0x0002, padded(ModalityPerformedProcedureStep)), element(0x1000, LONG)], 0x0117,
    ),
    "N-ACTION, no action type": (
        StorageCommitmentPushModel, Command.N_ACTION_RQ,
        [element(0x0003, padded(StorageCommitmentPushModel)), element(0x1001, b"1.2.3\0")], 0x0123,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_request_that_lacks_what_it_needs_is_answered_with_a_failure(
    face, case: str, tmp_path: Path
) -> None:
    sop_class, command, elements, status = CASES[case]
    with requesting(face, sop_class, receive_to=tmp_path) as (peer, told):
        peer.send(
            data_pdu(pdv(1, COMMAND | LAST, asked(command, *elements))),
            data_pdu(pdv(1, LAST, b"\x10\0\x20\0\4\0\0\0" + b"1234")),
        )
        response, dataset = peer.receive_message()
        assert (response.Status, response.MessageIDBeingRespondedTo) == (status, 5)
        assert dataset == b""
        assert told == []
        assert list(tmp_path.iterdir()) == []


def test_a_move_originator_title_that_is_too_long_is_cut(face) -> None:
    with requesting(face, CT) as (peer, told):
        elements = [
            element(0x0002, padded(CT)),
            element(0x1000, b"1.2.3\0"),
            element(0x1030, b"A TITLE OF TWENTY-TWO "),
            element(0x1031, b"\1\0\2\0"),  # two numbers
        ]
        peer.send(
            data_pdu(pdv(1, COMMAND | LAST, asked(Command.C_STORE_RQ, *elements))),
            data_pdu(pdv(1, LAST, b"\x10\0\x20\0\4\0\0\0" + b"1234")),
        )
        assert peer.receive_message()[0].Status == 0x0000
        (event,) = told
        assert event.request.MoveOriginatorApplicationEntityTitle == "A TITLE OF TWENT"
        assert event.request.MoveOriginatorMessageID is None


# --- Responses ---


def test_elements_outside_group_0000_of_a_response_are_skipped(face, caplog) -> None:
    """Orthanc puts the list of what failed into the command set."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    with raw_acceptor(face, contexts=[build_context(GET)]) as (assoc, peer):
        responses = assoc.send_c_get(identifier, GET)
        request, _ = peer.receive_message()
        response = Message(
            Command.C_GET_RSP,
            MessageIDBeingRespondedTo=request.MessageID,
            Status=0xC000,
            NumberOfCompletedSuboperations=2,
            NumberOfFailedSuboperations=1,
        )
        failed = struct.pack("<HHI", 0x0008, 0x0058, 6) + b"1.2.3\0"
        length = struct.pack("<HHII", 0x0008, 0x0000, 4, len(failed))
        command = encode_command(response) + length + failed
        peer.send(data_pdu(pdv(1, COMMAND | LAST, command)))
        ((status, _),) = responses
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xC000, 1)
        assert state(assoc) == ESTABLISHED
        assert "outside group 0000 are skipped, such as (0008,0058)" in caplog.text
        assoc.abort()


@pytest.mark.parametrize("uid", [LONG, b"1.2\\1.3\0", b"1.2.\xe4\0"])
def test_what_cannot_be_read_of_a_response_counts_as_absent(face, uid) -> None:
    with raw_acceptor(face) as (assoc, peer):
        with in_background(assoc.send_c_echo) as echo:
            request, _ = peer.receive_message()
            command = command_set(
                element(0x0002, uid),
                us(0x0100, Command.C_ECHO_RSP),
                us(0x0120, request.MessageID),
                us(0x0800, 0x0101),
                us(0x0900, 0x0122),
                element(0x0902, b"No \\room \xe4 "),
                element(0x0903, b"\1\0\2\0"),
            )
            peer.send(data_pdu(pdv(1, COMMAND | LAST, command)))
            status = echo.result()
        assert status.Status == 0x0122
        assert status.ErrorComment == "No \\room \\xe4"
        assert "ErrorID" not in status
        assert state(assoc) == ESTABLISHED
        assoc.abort()
