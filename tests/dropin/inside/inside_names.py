"""What has other shapes in dicomwire: primitives, requests, service classes, status tables."""

from __future__ import annotations

import copy
import json
import threading
from io import BytesIO

import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, dimse_messages, evt, pdu, sop_class, status
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    C_ECHO,
    C_MOVE,
    C_STORE,
    N_ACTION,
    N_CREATE,
    N_EVENT_REPORT,
    N_GET,
    N_SET,
    DIMSEPrimitive,
)
from pynetdicom.dsutils import decode, encode, pretty_dataset, pretty_element
from pynetdicom.pdu_primitives import (
    A_ABORT,
    A_ASSOCIATE,
    A_P_ABORT,
    A_RELEASE,
    P_DATA,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    ServiceParameter,
    SOPClassCommonExtendedNegotiation,
    UserIdentityNegotiation,
    primitive_of,
)
from pynetdicom.presentation import PresentationContextTuple
from pynetdicom.service_class import (
    QueryRetrieveServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.service_class_n import UnifiedProcedureStepServiceClass
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer
from pynetdicom.utils import set_timer_resolution

from dicomwire.data.payloads import MemoryPayload
from dicomwire.dimse_primitives import Command, Message
from dicomwire.pdu_primitives import Abort, AssociateRQ

CT = sop_class.CTImageStorage


# -- associations ---------------------------------------------------------------------------------


def test_the_default_title():
    assert AE().ae_title == "PYNETDICOM"
    assert pynetdicom.__version__ == "3.0.4"


def test_an_association_is_like_a_thread(connect):
    ends = connect()
    (acceptor,) = ends.server.active_associations
    assert ends.assoc.name.startswith("RequestorThread@")
    assert acceptor.name.startswith("AcceptorThread@")
    assert ends.assoc.daemon
    ends.assoc.name = "mine"
    assert ends.assoc.name == "mine"
    assert ends.assoc.is_alive()
    ends.assoc.release()
    acceptor.join(10)
    assert not acceptor.is_alive()
    assert isinstance(ends.server, AssociationServer)
    assert isinstance(ends.server, ThreadedAssociationServer)


def test_association_primitives(connect):
    seen = []
    handlers = [
        (event, lambda event: seen.append(event.primitive))
        for event in (evt.EVT_ACSE_RECV, evt.EVT_ACSE_SENT)
    ]
    item = UserIdentityNegotiation()
    item.user_identity_type = 1
    item.primary_field = b"me"
    ends = connect([], handlers, ext_neg=[item], max_pdu=20000)
    request, answer = ends.assoc.requestor.primitive, ends.assoc.acceptor.primitive
    ends.assoc.release()
    assert [type(each) for each in seen[2:]] == [A_RELEASE, A_RELEASE]
    assert [each.result for each in seen[2:]] == [None, "affirmative"]
    for sent in (request, seen[0]):
        assert isinstance(sent, A_ASSOCIATE)
        assert (sent.called_ae_title, sent.calling_ae_title) == ("ANY-SCP", "PYNETDICOM")
        assert [cx.context_id for cx in sent.presentation_context_definition_list] == [1, 3]
        assert sent.presentation_context_definition_results_list == []
        assert sent.result is sent.result_source is sent.diagnostic is None
        assert sent.maximum_length_received == 20000
        assert sent.user_information[-1] == item
    for received in (answer, seen[1]):
        assert isinstance(received, A_ASSOCIATE)
        assert (received.result, received.result_str) == (0, "Accepted")
        assert received.responding_ae_title == "ANY-SCP"
        assert [cx.result for cx in received.presentation_context_definition_results_list] == [0, 0]
        assert received.implementation_class_uid == pynetdicom.PYNETDICOM_IMPLEMENTATION_UID
    assert "user_identity" in dir(ends.assoc.requestor)
    assert ends.assoc.requestor.user_identity == item


def test_a_rejection_tells_why(connect):
    ends = connect()
    ends.scp.require_calling_aet = ["SOMEBODY"]
    assoc = ends.scu.associate("127.0.0.1", ends.port)
    assert assoc.is_rejected
    primitive = assoc.acceptor.primitive
    assert isinstance(primitive, A_ASSOCIATE)
    assert (primitive.result, primitive.result_source, primitive.diagnostic) == (1, 1, 3)
    assert primitive.result_str == "Rejected Permanent"
    assert primitive.source_str == "Service User"
    assert primitive.reason_str == "Calling AE title not recognised"
    assert primitive.user_information == primitive.presentation_context_definition_list == []


def test_aborts_have_two_primitives():
    assert primitive_of(Abort(0, 0)) == A_ABORT(0)
    assert primitive_of(Abort(2, 6)) == A_P_ABORT(6)


RELATED = "related_general_sop_class_identification"


def test_what_is_assigned_is_checked_and_converted():
    window = AsynchronousOperationsWindowNegotiation()
    for cls, name, given, kept in (
        (C_STORE, "AffectedSOPClassUID", b"1.2.3", UID("1.2.3")),
        (C_STORE, "AffectedSOPInstanceUID", "", None),
        (
            SOPClassCommonExtendedNegotiation,
            "related_general_sop_class_identification",
            ["1.2"],
            ["1.2"],
        ),
        (N_GET, "AttributeIdentifierList", ["PatientID"], [0x00100020]),
        (A_ASSOCIATE, "application_context_name", "1.2.3", UID("1.2.3")),
    ):
        primitive = cls()
        setattr(primitive, name, given)
        assert getattr(primitive, name) == kept
        assert type(getattr(primitive, name)) is type(kept)
    for primitive, name, value, error in (
        (C_STORE(), "AffectedSOPClassUID", 5, TypeError),
        (C_STORE(), "AffectedSOPClassUID", "1" * 65, ValueError),
        (C_STORE(), "MessageID", 65536, ValueError),
        (C_STORE(), "MessageID", "1", TypeError),
        (C_STORE(), "Priority", 3, ValueError),
        (C_MOVE(), "MoveDestination", "", ValueError),
        (window, "maximum_number_operations_invoked", -1, ValueError),
        (UserIdentityNegotiation(), "primary_field", "me", TypeError),
        (UserIdentityNegotiation(), "user_identity_type", 6, ValueError),
        (A_ASSOCIATE(), "called_ae_title", "A" * 17, ValueError),
        (A_ASSOCIATE(), "result", 3, ValueError),
        (A_ASSOCIATE(), "user_information", ["x"], TypeError),
        (A_ASSOCIATE(), "mode", "other", AttributeError),
        (A_RELEASE(), "result", "negative", ValueError),
        (A_P_ABORT(), "provider_reason", 3, ValueError),
        (P_DATA(), "presentation_data_value_list", [5], TypeError),
    ):
        with pytest.raises(error, match=name):
            setattr(primitive, name, value)


def test_what_a_peer_sent_is_shown_as_it_is():
    """Its values may be none that a program could assign."""
    message = Message(Command.C_STORE_RQ, AffectedSOPClassUID=UID("1" * 65, 0), Priority=9)
    request = C_STORE.of(message, None)
    assert (len(request.AffectedSOPClassUID), request.Priority) == (65, 9)
    assert primitive_of(AssociateRQ(calling_ae_title="Ä")).calling_ae_title == "Ä"
    assert primitive_of(Abort(2, 3)).provider_reason == 3


def test_items_are_what_is_sent():
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid, item.scu_role = "1.2.3", True
    assert item.from_primitive().encode().endswith(b"1.2.3\1\0")
    item.scp_role = False
    assert build_role("1.2.3", scu_role=True) == item
    item.scu_role = False
    with pytest.raises(ValueError, match="neither SCU nor SCP role"):
        item.from_primitive()
    with pytest.raises(ValueError, match="implementation_class_uid is not set"):
        ImplementationClassUIDNotification().from_primitive()


def test_items_that_a_peer_sent_are_instances_of_the_same_classes(connect):
    ends = connect(ext_neg=[build_role(CT, scu_role=True, scp_role=True)])
    (acceptor,) = ends.server.active_associations
    for items in (ends.assoc.requestor.user_information, acceptor.requestor.user_information):
        kinds = (MaximumLengthNotification, SCP_SCU_RoleSelectionNegotiation)
        assert [[isinstance(item, kind) for item in items].count(True) for kind in kinds] == [1, 1]
        assert all(isinstance(item, ServiceParameter) for item in items)
    assert acceptor.requestor.role_selection[CT] == build_role(CT, scu_role=True, scp_role=True)


def test_the_classes_of_pdus_and_messages(connect):
    seen = []

    def note(event):
        if event.event is evt.EVT_PDU_RECV:
            kinds = (pdu.A_ASSOCIATE_RQ, pdu.A_RELEASE_RQ, pdu.P_DATA_TF, pdu.A_ABORT_RQ)
            seen.append([kind.__name__ for kind in kinds if isinstance(event.pdu, kind)])
        else:
            kinds = (dimse_messages.C_ECHO_RQ, dimse_messages.C_ECHO_RSP, DIMSEMessage)
            seen.append([kind.__name__ for kind in kinds if isinstance(event.message, kind)])

    events = (evt.EVT_PDU_RECV, evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT)
    ends = connect([(event, note) for event in events])
    ends.assoc.send_c_echo()
    ends.assoc.release()
    assert seen == [
        ["AssociateRQ"],
        ["PDataTF"],
        ["C_ECHO_RQ", "DIMSEMessage"],
        ["C_ECHO_RSP", "DIMSEMessage"],
        ["ReleaseRQ"],
    ]
    assert not isinstance(None, dimse_messages.C_ECHO_RQ)


def test_primitives_can_be_made_by_hand():
    primitive = A_ASSOCIATE()
    assert primitive.maximum_length_received is primitive.implementation_class_uid is None
    primitive.calling_ae_title = "ME"
    primitive.maximum_length_received = 100
    primitive.maximum_length_received = 200
    primitive.implementation_class_uid = "1.2.3"
    primitive.result = 1
    primitive.presentation_context_definition_list = [pynetdicom.build_context(CT)]
    assert primitive.maximum_length_received == 200
    assert len(primitive.user_information) == 2
    assert all(isinstance(item, ServiceParameter) for item in primitive.user_information)
    assert A_ASSOCIATE().presentation_context_definition_list == []
    assert A_ASSOCIATE().called_ae_title == "DEFAULT"
    assert A_ASSOCIATE.mode == "normal"
    assert P_DATA().presentation_data_value_list == []
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 5
    assert isinstance(window, ServiceParameter)


# -- requests -------------------------------------------------------------------------------------

SERVICES = [
    ("C_ECHO", None),
    ("C_STORE", "DataSet"),
    ("C_FIND", "Identifier"),
    ("C_GET", "Identifier"),
    ("C_MOVE", "Identifier"),
    ("N_EVENT_REPORT", "EventInformation"),
    ("N_GET", None),
    ("N_SET", "ModificationList"),
    ("N_ACTION", "ActionInformation"),
    ("N_CREATE", "AttributeList"),
    ("N_DELETE", None),
]


@pytest.mark.parametrize(("service", "dataset"), SERVICES)
def test_the_request_that_a_handler_sees(service, dataset):
    message = Message(Command[f"{service}_RQ"], MessageID=7, AffectedSOPClassUID=CT)
    payload = MemoryPayload(bytearray(b"data")) if dataset else None
    attrs = {"request": message, "payload": payload}
    event = evt.Event(None, getattr(evt, f"EVT_{service}"), attrs)
    request = event.request
    assert type(request).__name__ == service
    assert isinstance(request, DIMSEPrimitive)
    assert request.msg_type == service.replace("_", "-")
    assert (request.MessageID, request.AffectedSOPClassUID) == (7, CT)
    assert event.request is request
    assert event.message_id == 7
    assert event.payload is payload
    if dataset:
        encoded = getattr(request, dataset)
        assert encoded.getvalue() == b"data"
        assert getattr(request, dataset) is encoded


def test_a_request_without_a_dataset():
    event = evt.Event(None, evt.EVT_N_CREATE, {"request": Message(Command.N_CREATE_RQ)})
    assert event.request.AttributeList is None
    assert event.attribute_list == Dataset()


def test_replies_have_names_of_their_own():
    for cls, sent, replied in (
        (N_ACTION, "ActionInformation", "ActionReply"),
        (N_EVENT_REPORT, "EventInformation", "EventReply"),
        (N_SET, "ModificationList", "AttributeList"),
    ):
        request = cls.of(Message(cls._request), MemoryPayload(bytearray(b"data")))
        assert getattr(request, sent).getvalue() == b"data"
        assert getattr(request, replied) is None


def test_an_event_has_no_more_than_it_was_given():
    event = evt.Event(None, evt.EVT_CONN_OPEN, {"address": ("127.0.0.1", 104)})
    assert event.address == ("127.0.0.1", 104)
    for name in ("request", "primitive"):
        with pytest.raises(AttributeError, match=f"EVT_CONN_OPEN has no {name}"):
            getattr(event, name)


def test_handlers_can_be_tried_with_events_made_by_hand(ct):
    request = C_STORE()
    assert (request.Priority, request.DataSet, request.is_valid_request) == (2, None, False)
    request.MessageID = 1
    request.AffectedSOPClassUID = ct.SOPClassUID
    request.AffectedSOPInstanceUID = ct.SOPInstanceUID
    request.DataSet = BytesIO(encode(ct, is_implicit_vr=False, is_little_endian=True))
    context = PresentationContextTuple(1, ct.SOPClassUID, ExplicitVRLittleEndian)
    event = evt.Event(None, evt.EVT_C_STORE, {"request": request, "context": context})
    assert request.is_valid_request
    assert not request.is_valid_response
    assert event.request is request
    assert event.dataset == ct
    assert event.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert event.encoded_dataset(include_meta=False) == request.DataSet.getvalue()
    with pytest.raises(TypeError, match="DataSet is a BytesIO"):
        request.DataSet = b""


def test_keywords_of_primitives():
    assert "DataSet" in C_STORE.REQUEST_KEYWORDS
    assert "AttributeList" not in N_CREATE.REQUEST_KEYWORDS
    assert C_ECHO.RESPONSE_KEYWORDS == ("MessageIDBeingRespondedTo", "Status")
    response = C_ECHO()
    response.MessageIDBeingRespondedTo, response.Status = 1, 0
    assert response.is_valid_response
    assert C_CANCEL().MessageIDBeingRespondedTo is None


def test_trigger_calls_what_is_bound(connect):
    seen = []
    ends = connect([], [(evt.EVT_C_ECHO, lambda event: 5), (evt.EVT_CONN_OPEN, seen.append)])
    assert evt.trigger(ends.assoc, evt.EVT_C_ECHO, {}) == 5
    evt.trigger(ends.assoc, evt.EVT_CONN_OPEN, {"address": ("", 1)})
    assert [type(event) for event in seen] == [evt.Event, evt.Event]


# -- SOP classes and statuses ---------------------------------------------------------------------


def test_service_classes_are_classes():
    assert CT.service_class is StorageServiceClass
    assert sop_class.uid_to_service_class(str(CT)) is StorageServiceClass
    assert sop_class.uid_to_service_class("1.2.3.99") is ServiceClass
    assert sop_class.uid_to_sop_class("1.2.3.99").service_class is ServiceClass
    assert sop_class.Verification.service_class is VerificationServiceClass
    assert sop_class.UnifiedProcedureStepPush.service_class is UnifiedProcedureStepServiceClass
    assert issubclass(StorageServiceClass, ServiceClass)
    assert StorageServiceClass.uid == "1.2.840.10008.4.2"
    assert 0xA700 in StorageServiceClass.statuses
    assert CT.name == "CT Image Storage"
    assert isinstance(CT, sop_class.SOPClass)
    assert copy.deepcopy(CT) == CT


def test_a_registered_class_is_served(connect, ct):
    pynetdicom.register_uid("1.2.3.4.1", "OwnStorage", StorageServiceClass)
    assert sop_class.OwnStorage == "1.2.3.4.1"
    assert sop_class.OwnStorage.service_class is StorageServiceClass
    ct.SOPClassUID = sop_class.OwnStorage
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000)]
    ends = connect(handlers, contexts=(sop_class.OwnStorage,))
    assert ends.assoc.send_c_store(ct).Status == 0x0000


def test_registering_by_a_class_of_the_program_itself():
    class OwnQuery(QueryRetrieveServiceClass):
        pass

    class OwnProtocol(ServiceClass):
        def SCP(self, req, context):
            pass

    pynetdicom.register_uid("1.2.3.4.2", "OwnFind", OwnQuery, "C-FIND")
    assert sop_class.OwnFind.service_class is QueryRetrieveServiceClass
    with pytest.raises(TypeError, match="bind handlers"):
        pynetdicom.register_uid("1.2.3.4.3", "Own", OwnProtocol)


def test_status_tables_are_dicts():
    table = status.STORAGE_SERVICE_CLASS_STATUS
    assert type(table) is dict
    assert table is status.STORAGE_SERVICE_CLASS_STATUS
    assert len(table) == 4635
    assert json.loads(json.dumps(table))["0"][0] == "Success"
    assert "STORAGE_SERVICE_CLASS_STATUS" in dir(status)
    with pytest.raises(AttributeError, match="NO_SUCH_STATUS"):
        status.NO_SUCH_STATUS  # noqa: B018


# -- the rest -------------------------------------------------------------------------------------


def test_decode_takes_all_of_its_stream():
    ds = Dataset()
    ds.PatientName = "Doe^Jane"
    stream = BytesIO(encode(ds, True, True))
    assert decode(stream, True, True) == ds
    assert decode(stream, ImplicitVRLittleEndian.is_implicit_VR, True) == ds


def test_what_is_no_dataset_has_no_encoding():
    assert encode(None, True, True) is None
    assert encode(Dataset(), True, True) == b""


def test_datasets_are_shown_in_the_words_of_pynetdicom():
    item = Dataset()
    item.CodeValue = None
    ds = Dataset()
    ds.ImageComments = "a\nb"
    ds.ProcedureCodeSequence = [item]
    ds.add_new(0x7FE00010, "OB", bytes(20))
    lines = [" ".join(line.split()) for line in pretty_dataset(ds)]
    assert lines == [
        "(0008,1032) SQ (Sequence with 1 item) # 1 ProcedureCodeSequence",
        "(Sequence item #1)",
        "(0008,0100) SH (no value available) # 0 CodeValue",
        r"(0020,4000) LT [a\nb] # 1 ImageComments",
        "(7FE0,0010) OB (20 bytes of binary data) # 1 PixelData",
    ]
    assert pretty_element(ds["ImageComments"]).endswith("# 1 ImageComments")


def test_uids_of_no_service():
    assert sop_class.uid_to_service_class("1.2.840.10008.4.2") is StorageServiceClass
    for nothing in (None, 5):
        with pytest.raises(TypeError):
            sop_class.uid_to_sop_class(nothing)


def test_what_nothing_needs_any_more():
    with set_timer_resolution(5):
        assert threading.active_count()
