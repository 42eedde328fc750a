from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from dicomwire import events as evt
from dicomwire import logs
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
    UserItem,
)
from dicomwire.protocol.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the logger of the package as it was."""
    handlers, level = list(logs.LOGGER.handlers), logs.LOGGER.level
    yield
    logs.LOGGER.handlers[:] = handlers
    logs.LOGGER.setLevel(level)


def a_context(
    context_id: int, abstract_syntax: UID | None, *syntaxes: UID, result: int | None = None
) -> PresentationContext:
    return PresentationContext.from_wire(context_id, abstract_syntax, list(syntaxes), result)


def a_request(*items: UserItem, **values: Any) -> AssociateRQ:
    contexts = [
        a_context(1, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        a_context(3, MRImageStorage, ImplicitVRLittleEndian),
    ]
    arguments: dict[str, Any] = {
        "called_ae_title": "ARCHIVE",
        "calling_ae_title": "MODALITY",
        "presentation_contexts": contexts,
        "user_information": list(items),
    }
    return AssociateRQ(**{**arguments, **values})


def an_answer() -> AssociateAC:
    contexts = [
        a_context(1, None, ExplicitVRLittleEndian, result=Result.ACCEPTANCE),
        a_context(3, None, result=Result.ABSTRACT_SYNTAX_NOT_SUPPORTED),
    ]
    return AssociateAC(
        called_ae_title="ARCHIVE",
        calling_ae_title="MODALITY",
        presentation_contexts=contexts,
        user_information=[MaximumLengthNotification(0)],
    )


def dump(
    caplog: pytest.LogCaptureFixture, pdu: Any, received: bool = True, assoc: Any = None
) -> list[str]:
    """Return the lines that are logged for `pdu`, all of them at DEBUG."""
    event = evt.EVT_PDU_RECV if received else evt.EVT_PDU_SENT
    handler = dict(logs.DEFAULT_LOG_HANDLERS)[event]
    return captured(caplog, handler, evt.Event(assoc, event, {"pdu": pdu}))


def dump_message(
    caplog: pytest.LogCaptureFixture, message: Message, received: bool = True, **attrs: Any
) -> list[str]:
    event = evt.EVT_DIMSE_RECV if received else evt.EVT_DIMSE_SENT
    handler = dict(logs.DEFAULT_LOG_HANDLERS)[event]
    return captured(caplog, handler, evt.Event(None, event, {"message": message, **attrs}))


def captured(caplog: pytest.LogCaptureFixture, handler: Any, *args: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "dicomwire"):
        handler(*args)
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
    assert {record.name for record in caplog.records} == {"dicomwire"}
    return [record.getMessage() for record in caplog.records]


def test_a_number_agrees_with_its_noun() -> None:
    assert [logs.counted(number, "object") for number in range(3)] == [
        "0 objects",
        "1 object",
        "2 objects",
    ]
    assert logs.counted(2, "study", "studies") == "2 studies"


class TestEscaped:
    @pytest.mark.parametrize("text", ["", "ARCHIVE", "A B", "é ü 山田", "a\\b", "100 %s"])
    def test_printable_text_stays(self, text: str) -> None:
        assert logs.escaped(text) == text

    @pytest.mark.parametrize(
        ("text", "safe"),
        [
            ("a\nI: forged", r"a\nI: forged"),
            ("\r\n", r"\r\n"),
            ("\x1b[2J", r"\x1b[2J"),
            ("\0", r"\x00"),
            ("\x85\u2028", r"\x85\u2028"),
            ("\u202e", r"\u202e"),
            ("\udc80", r"\udc80"),
            ("\U000e0001", r"\U000e0001"),
        ],
    )
    def test_all_else_is_shown_as_escapes(self, text: str, safe: str) -> None:
        assert logs.escaped(text) == safe
        assert logs.escaped(text).isprintable()


class TestDebugLogger:
    def test_one_handler_whatever_there_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        logs.LOGGER.addHandler(logging.NullHandler())
        logs.debug_logger()
        logs.debug_logger()
        assert len(logs.LOGGER.handlers) == 1
        assert logs.LOGGER.level == logging.DEBUG
        logs.LOGGER.debug("a detail")
        logs.LOGGER.info(logs.Progress.REQUESTING)
        assert stream.getvalue() == "D: a detail\nI: Requesting Association\n"


class TestNews:
    def test_reads_as_people_know_it(self) -> None:
        assert {str(line) for line in logs.Progress} >= {
            "Requesting Association",
            "Association Accepted",
            "Association Rejected",
            "Accepting Association",
            "Releasing Association",
            "Association Released",
            "Association Aborted",
        }


class TestAssociate:
    def test_request(self, caplog: pytest.LogCaptureFixture) -> None:
        lines = dump(caplog, a_request(MaximumLengthNotification(16382)))
        assert lines == [
            "======================= INCOMING A-ASSOCIATE-RQ PDU ========================",
            "Request Parameters",
            "Calling AE title        : MODALITY",
            "Called AE title         : ARCHIVE",
            "Application context     : DICOM Application Context Name (1.2.840.10008.3.1.1.1)",
            "Maximum PDU length      : 16382",
            "Presentation context 1: CT Image Storage (1.2.840.10008.5.1.4.1.1.2)",
            "    Explicit VR Little Endian (1.2.840.10008.1.2.1)",
            "    Implicit VR Little Endian (1.2.840.10008.1.2)",
            "Presentation context 3: MR Image Storage (1.2.840.10008.5.1.4.1.1.4)",
            "    Implicit VR Little Endian (1.2.840.10008.1.2)",
            "========================== END A-ASSOCIATE-RQ PDU ==========================",
        ]

    def test_headers_are_76_columns(self, caplog: pytest.LogCaptureFixture) -> None:
        for received in (True, False):
            lines = dump(caplog, a_request(), received)
            assert len(lines[0]) == len(lines[-1]) == 76

    def test_direction(self, caplog: pytest.LogCaptureFixture) -> None:
        assert "= OUTGOING A-ASSOCIATE-RQ PDU =" in dump(caplog, a_request(), received=False)[0]

    def test_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        requestor = SimpleNamespace(primitive=a_request())
        lines = dump(caplog, an_answer(), assoc=SimpleNamespace(requestor=requestor))
        assert lines[1] == "Accept Parameters"
        assert "Maximum PDU length      : unlimited" in lines
        assert lines[6:-1] == [
            "Presentation context 1: CT Image Storage (1.2.840.10008.5.1.4.1.1.2)",
            "    accepted, Explicit VR Little Endian (1.2.840.10008.1.2.1)",
            "Presentation context 3: MR Image Storage (1.2.840.10008.5.1.4.1.1.4)",
            "    rejected, Abstract Syntax Not Supported",
        ]

    def test_answer_to_an_unknown_request(self, caplog: pytest.LogCaptureFixture) -> None:
        assert "Presentation context 1: (none)" in dump(caplog, an_answer())

    def test_uid_without_a_name(self, caplog: pytest.LogCaptureFixture) -> None:
        request = a_request(presentation_contexts=[a_context(1, UID("1.2.3.4"))])
        assert "Presentation context 1: 1.2.3.4" in dump(caplog, request)

    def test_text_of_the_peer_is_escaped(self, caplog: pytest.LogCaptureFixture) -> None:
        request = a_request(
            ImplementationVersionNameNotification("\x1b[31mRED"),
            calling_ae_title="A\nI: forged",
            presentation_contexts=[a_context(1, str.__new__(UID, "1.2\r\n3"))],
        )
        lines = dump(caplog, request)
        assert all(line.isprintable() for line in lines)
        assert r"Calling AE title        : A\nI: forged" in lines

    def test_percent_signs_are_only_text(self, caplog: pytest.LogCaptureFixture) -> None:
        lines = dump(caplog, a_request(calling_ae_title="%s %d"))
        assert "Calling AE title        : %s %d" in lines

    @pytest.mark.parametrize(
        ("item", "line"),
        [
            (
                ImplementationClassUIDNotification(UID("1.2.3")),
                "Implementation class    : 1.2.3",
            ),
            (ImplementationClassUIDNotification(), "Implementation class    : (none)"),
            (ImplementationVersionNameNotification("V1"), "Implementation version  : V1"),
            (
                AsynchronousOperationsWindowNegotiation(0, 4),
                "Asynchronous operations : any number invoked, 4 performed",
            ),
            (
                SCP_SCU_RoleSelectionNegotiation(UID("1.2.3"), False, True),
                "Role selection          : SCU no, SCP yes, 1.2.3",
            ),
            (
                SOPClassExtendedNegotiation(UID("1.2.3"), b"\x01\x00"),
                "Extended negotiation    : 1.2.3: 01 00 (2 bytes)",
            ),
            (
                SOPClassExtendedNegotiation(UID("1.2.3"), bytes(100)),
                f"Extended negotiation    : 1.2.3: {'00 ' * 32}... (100 bytes)",
            ),
            (
                SOPClassCommonExtendedNegotiation(UID("1.2.3"), UID("1.2.4"), []),
                "Common extended         : 1.2.3, service class 1.2.4",
            ),
            (
                UserIdentityNegotiation(2, True, b"someone", b"hunter2"),
                "User identity           : user name and passcode, response requested",
            ),
            (
                UserIdentityNegotiation(9, False, b"someone", b""),
                "User identity           : type 9",
            ),
            (
                UserIdentityNegotiation(server_response=b"ticket"),
                "User identity           : confirmed, 6 bytes of response",
            ),
        ],
    )
    def test_user_information(
        self, caplog: pytest.LogCaptureFixture, item: UserItem, line: str
    ) -> None:
        lines = dump(caplog, a_request(item))
        assert line in lines
        assert not any("hunter2" in line or "ticket" in line for line in lines)

    def test_rejection(self, caplog: pytest.LogCaptureFixture) -> None:
        lines = dump(caplog, AssociateRJ(1, 1, 7))
        assert "= INCOMING A-ASSOCIATE-RJ PDU =" in lines[0]
        assert lines[1:-1] == [
            "Result                  : Rejected Permanent",
            "Source                  : Service User",
            "Reason                  : Called AE title not recognised",
        ]


class TestOtherPdus:
    def test_abort(self, caplog: pytest.LogCaptureFixture) -> None:
        lines = dump(caplog, Abort(2, 2), received=False)
        assert "= OUTGOING A-ABORT PDU =" in lines[0]
        assert lines[1:-1] == [
            "Source                  : Service Provider",
            "Reason                  : Unexpected PDU",
        ]

    @pytest.mark.parametrize(
        ("pdu", "name"), [(ReleaseRQ(), "A-RELEASE-RQ"), (ReleaseRP(), "A-RELEASE-RP")]
    )
    def test_release(
        self, caplog: pytest.LogCaptureFixture, pdu: ReleaseRQ | ReleaseRP, name: str
    ) -> None:
        begin, end = dump(caplog, pdu)
        assert f"= INCOMING {name} PDU =" in begin
        assert f"= END {name} PDU =" in end

    def test_data_take_one_line(self, caplog: pytest.LogCaptureFixture) -> None:
        (line,) = dump(caplog, PDataTF([(1, 3, bytes(68)), (1, 0, b"Doe^John")]))
        assert line == (
            "INCOMING P-DATA-TF PDU: context 1, command, last, 68 bytes; "
            "context 1, dataset, 8 bytes"
        )


class TestMessages:
    def test_request(self, caplog: pytest.LogCaptureFixture) -> None:
        message = Message(
            Command.C_MOVE_RQ,
            MessageID=7,
            AffectedSOPClassUID=UID("1.2.840.10008.5.1.4.1.2.1.2"),
            Priority=2,
            MoveDestination="HERE\n",
            has_dataset=True,
        )
        model = "Patient Root Query/Retrieve Information Model - MOVE (1.2.840.10008.5.1.4.1.2.1.2)"
        assert dump_message(caplog, message, context_id=3) == [
            "========================== INCOMING DIMSE MESSAGE ==========================",
            "Message                 : C-MOVE-RQ",
            "Presentation context    : 3",
            "MessageID               : 7",
            f"AffectedSOPClassUID     : {model}",
            "Priority                : low",
            r"MoveDestination         : HERE\n",
            "Command set             : implicit VR little endian, as for pydicom.read_dataset()",
            "Dataset                 : present",
            "============================ END DIMSE MESSAGE =============================",
        ]

    def test_response(self, caplog: pytest.LogCaptureFixture) -> None:
        message = Message(
            Command.C_STORE_RSP,
            MessageIDBeingRespondedTo=7,
            Status=0xA700,
            OffendingElement=[Tag("PatientName"), Tag("PatientID")],
            ErrorComment="full",
        )
        lines = dump_message(caplog, message, received=False)
        assert "= OUTGOING DIMSE MESSAGE =" in lines[0]
        assert lines[1:-1] == [
            "Message                 : C-STORE-RSP",
            "MessageIDBeingRespondedTo: 7",
            "Status                  : 0xA700",
            "OffendingElement        : (0010,0010) (0010,0020)",
            "ErrorComment            : full",
            "Command set             : implicit VR little endian, as for pydicom.read_dataset()",
            "Dataset                 : none",
        ]

    def test_unknown_priority(self, caplog: pytest.LogCaptureFixture) -> None:
        message = Message(Command.C_FIND_RQ, MessageID=1, Priority=9)
        assert "Priority                : 9" in dump_message(caplog, message)

    @pytest.mark.parametrize("command", Command)
    def test_any_message(self, caplog: pytest.LogCaptureFixture, command: Command) -> None:
        assert command.name.replace("_", "-") in dump_message(caplog, Message(command))[1]


class TestIdentifier:
    def test_is_dumped(self, caplog: pytest.LogCaptureFixture) -> None:
        identifier = Dataset()
        identifier.PatientName = "Doe^John"
        lines = captured(caplog, logs.log_identifier, "REQUEST IDENTIFIER", identifier)
        assert "= REQUEST IDENTIFIER =" in lines[0]
        assert any("Doe^John" in line for line in lines[1:-1])
        assert all(line.isprintable() for line in lines)


class TestLevel:
    def test_nothing_is_formed_above_debug(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "_log_block", None)
        identifier = Dataset()
        identifier.PatientName = "Doe^John"
        with caplog.at_level(logging.INFO, "dicomwire"):
            for event, handler in logs.DEFAULT_LOG_HANDLERS:
                handler(evt.Event(None, event, {"pdu": PDataTF(), "message": None}))
            logs.log_identifier("IDENTIFIER", identifier)
        assert not caplog.records

    def test_default_handlers_cost_nothing_above_debug(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "dicomwire"):
            handlers = evt.Handlers(None, logs.DEFAULT_LOG_HANDLERS)
            for event, handler in logs.DEFAULT_LOG_HANDLERS:
                assert handlers.get_handlers(event) == [(handler, None)]
                assert not handlers.bound(event)

    def test_default_handlers_dump_at_debug(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG, "dicomwire"):
            handlers = evt.Handlers(None, logs.DEFAULT_LOG_HANDLERS)
            handlers.notify(None, evt.EVT_PDU_RECV, {"pdu": an_answer()})
            handlers.notify(None, evt.EVT_DIMSE_SENT, {"message": Message(Command.C_ECHO_RQ)})
        assert "Accept Parameters" in caplog.messages
        assert "Message                 : C-ECHO-RQ" in caplog.messages
