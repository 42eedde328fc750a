"""C-GET and C-MOVE between two ends: objects on their way, counts, destinations, failures."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from scenario import (
    ABORTED,
    RELEASED,
    eventually,
    in_background,
    make_ct,
    raw_acceptor,
    raw_answer,
    state,
)

from dicomwire import build_context, build_role, evt
from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import create_file_meta
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.items import MaximumLengthNotification
from dicomwire.sop_class import (
    CompositeInstanceRetrieveWithoutBulkDataGet,
    HangingProtocolInformationModelGet,
    HangingProtocolInformationModelMove,
    HangingProtocolStorage,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    ProtocolApprovalInformationModelGet,
    ProtocolApprovalInformationModelMove,
    ProtocolApprovalStorage,
)
from dicomwire.tls import client_context, server_context
from raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    WAIT,
    RawPeer,
    RawServer,
    accept_pdu,
    context,
    request_pdu,
    store_request,
)

FIND = PatientRootQueryRetrieveInformationModelFind
GET = PatientRootQueryRetrieveInformationModelGet
MOVE = PatientRootQueryRetrieveInformationModelMove
MODELS = [
    FIND,
    GET,
    MOVE,
    CompositeInstanceRetrieveWithoutBulkDataGet,
    HangingProtocolInformationModelGet,
    HangingProtocolInformationModelMove,
    ProtocolApprovalInformationModelGet,
    ProtocolApprovalInformationModelMove,
]
OBJECTS = [CT, HangingProtocolStorage, ProtocolApprovalStorage]
PENDING, SUCCESS = 0xFF00, 0x0000
JPEG = "1.2.840.10008.1.2.4.50"

QUERY = Dataset()
QUERY.PatientID = "1"


def make_file(folder, instance="1.2.3.4", syntax=EXPLICIT, size=64):
    ds = make_ct(size, instance, syntax)
    ds.file_meta = create_file_meta(
        sop_class_uid=CT, sop_instance_uid=instance, transfer_syntax=syntax
    )
    path = folder / f"{instance}.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def images(count):
    return [(PENDING, make_ct(instance=f"1.2.{number}")) for number in range(1, count + 1)]


def yields(*results):
    return lambda event: iter(results)


class Archive:
    """Keeps what it is sent by C-STORE."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.requests = []
        self.datasets = []
        self.binding = (evt.EVT_C_STORE, self)

    def __call__(self, event):
        self.requests.append(event.request)
        self.datasets.append(event.dataset)
        return self.statuses.pop(0) if self.statuses else SUCCESS

    @property
    def instances(self):
        return [request.AffectedSOPInstanceUID for request in self.requests]


def provide(face, *handlers, title="SCP", contexts=OBJECTS, **settings):
    """Return a server that retrieves, and that sends objects in `contexts`."""
    ae = face.ae(title, supported=[VERIFICATION, *MODELS], **settings)
    for each in OBJECTS:
        ae.add_supported_context(each, [IMPLICIT, EXPLICIT, JPEG], scu_role=True, scp_role=True)
    ae.requested_contexts = [build_context(each, [IMPLICIT, EXPLICIT, JPEG]) for each in contexts]
    return face.serve(handlers, ae=ae)


def ask(face, server, *handlers, roles=OBJECTS, syntaxes=(EXPLICIT, IMPLICIT), **options):
    contexts = [*MODELS, VERIFICATION, *(build_context(each, list(syntaxes)) for each in OBJECTS)]
    return face.associate(
        server,
        handlers,
        contexts=contexts,
        ext_neg=[build_role(each, scp_role=True) for each in roles],
        **options,
    )


@pytest.fixture(scope="module")
def tls(certificates):
    """A server's TLS context, and a client's that trusts it."""
    return server_context(*certificates.server), client_context(ca=certificates.ca)


def counts(status):
    """Return (status, remaining, completed, failed, warning) of a response; None if not told."""
    keywords = ["Remaining", "Completed", "Failed", "Warning"]
    numbers = [status.get(f"NumberOf{each}Suboperations") for each in keywords]
    return (status.get("Status"), *numbers)


def told(responses):
    return [counts(status) for status, _ in responses]


LOST = (None, None, None, None, None)
NOTHING_COUNTED = (None, None, None, None)


# --- C-GET ---


@pytest.mark.parametrize(
    ("model", "sop_class"),
    [
        (GET, CT),
        (HangingProtocolInformationModelGet, HangingProtocolStorage),
        (ProtocolApprovalInformationModelGet, ProtocolApprovalStorage),
    ],
)
def test_a_get_brings_objects_on_the_same_association(face, model, sop_class):
    objects = images(2)
    for _, each in objects:
        each.SOPClassUID = sop_class
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(2, *objects)))
    with ask(face, server, archive.binding) as assoc:
        responses = list(assoc.send_c_get(QUERY, model, msg_id=9))
    assert told(responses) == [
        (PENDING, 1, 1, 0, 0),
        (PENDING, 0, 2, 0, 0),
        (SUCCESS, None, 2, 0, 0),
    ]
    assert [identifier for _, identifier in responses] == [None] * 3
    assert archive.instances == ["1.2.1", "1.2.2"]
    assert [each.PixelData for each in archive.datasets] == [ds.PixelData for _, ds in objects]
    assert [request.MessageID for request in archive.requests] == [10, 11]
    assert {request.MoveOriginatorMessageID for request in archive.requests} == {None}
    assert state(assoc) == RELEASED


def test_a_comment_of_the_handler_at_the_end_is_sent_and_its_counts_are_ours(face):
    status = Dataset()
    status.Status, status.ErrorComment = SUCCESS, "one was not sent"
    server = provide(face, (evt.EVT_C_GET, yields(1, *images(1), (status, None))))
    with ask(face, server, Archive(0xA700).binding) as assoc:
        *_, (final, _) = assoc.send_c_get(QUERY, GET)
    assert counts(final) == (0xA702, None, 0, 1, 0)
    assert final.ErrorComment == "one was not sent"


@pytest.mark.parametrize("as_text", [True, False])
def test_a_get_of_files(face, tmp_path, as_text):
    paths = [make_file(tmp_path, f"1.2.{number}", size=300_000) for number in range(3)]
    results = [(PENDING, str(path) if as_text else path) for path in paths]
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(3, *results)))
    with ask(face, server, archive.binding) as assoc:
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (SUCCESS, None, 3, 0, 0)
    assert archive.datasets == [dcmread(path) for path in paths]


def test_objects_are_converted_where_their_syntax_was_not_accepted(face, tmp_path):
    results = [(PENDING, make_file(tmp_path)), *images(1)]
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(2, *results)))
    with ask(face, server, archive.binding, syntaxes=[IMPLICIT]) as assoc:
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (SUCCESS, None, 2, 0, 0)
    assert archive.instances == ["1.2.3.4", "1.2.1"]


def test_what_cannot_be_sent_is_told_by_its_uid(face, tmp_path):
    """Compressed, of an unknown class, not there, no DICOM, incomplete."""
    compressed = make_ct(instance="1.3.1", syntax=JPEG)
    compressed["PixelData"].VR = "OB"
    compressed.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    compressed["PixelData"].is_undefined_length = True
    unknown = make_ct(instance="1.3.2")
    unknown.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    bare = Dataset()
    file = make_file(tmp_path, "1.3.3")
    mr = dcmread(file)
    mr.file_meta.MediaStorageSOPClassUID = mr.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dcmwrite(file, mr, enforce_file_format=True)
    values = [compressed, unknown, text, tmp_path / "none", bare, file, make_ct(instance="1.2.1")]
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(7, *((PENDING, each) for each in values))))
    with ask(face, server, archive.binding) as assoc:
        *_, (status, identifier) = assoc.send_c_get(QUERY, GET)
    assert counts(status) == (0xB000, None, 1, 6, 0)
    assert identifier.FailedSOPInstanceUIDList == ["1.3.1", "1.3.2", "", "", "", "1.3.3"]
    assert archive.instances == ["1.2.1"]


JUNK = [1, True, [], {"SOPInstanceUID": "1.2"}, object()]


@pytest.mark.parametrize("model", [GET, MOVE])
def test_what_is_no_object_counts_as_failed(face, model):
    """A number is none either, though it may be that of an open file."""
    archive = Archive()
    results = (len(JUNK) + 1, *((PENDING, junk) for junk in JUNK), *images(1))
    outcome = (0xB000, None, 1, len(JUNK), 0)
    if model is MOVE:
        responses = move(face, *results, destination=store(face, archive.binding))
        assert told(responses)[-1] == outcome
    else:
        server = provide(face, (evt.EVT_C_GET, yields(*results)))
        with ask(face, server, archive.binding) as assoc:
            assert told(assoc.send_c_get(QUERY, GET))[-1] == outcome
    assert archive.instances == ["1.2.1"]


@pytest.mark.parametrize(
    ("statuses", "outcome", "failed"),
    [
        ([SUCCESS, 0xB000], (0xB000, None, 1, 0, 1), []),
        ([0xA700, SUCCESS], (0xB000, None, 1, 1, 0), ["1.2.1"]),
        ([0xA700, 0xC000], (0xA702, None, 0, 2, 0), ["1.2.1", "1.2.2"]),
    ],
)
def test_what_the_user_answers_is_counted(face, statuses, outcome, failed):
    server = provide(face, (evt.EVT_C_GET, yields(2, *images(2))))
    with ask(face, server, Archive(*statuses).binding) as assoc:
        *_, (status, identifier) = assoc.send_c_get(QUERY, GET)
    assert counts(status) == outcome
    value = identifier.FailedSOPInstanceUIDList or []
    assert ([value] if isinstance(value, str) else list(value)) == failed


def test_a_user_without_handler(face):
    server = provide(face, (evt.EVT_C_GET, yields(1, *images(1))))
    with ask(face, server) as assoc:
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (0xA702, None, 0, 1, 0)


def test_a_user_that_did_not_take_the_role(face):
    server = provide(face, (evt.EVT_C_GET, yields(1, *images(1))))
    with ask(face, server, Archive().binding, roles=[]) as assoc:
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (0xA702, None, 0, 1, 0)


IMAGE = encode_dataset(make_ct(), IMPLICIT)


def test_an_object_that_comes_without_the_role_is_refused(face):
    archive = Archive()
    with raw_acceptor(face, archive.binding, contexts=[GET, CT]) as (assoc, peer):
        responses = assoc.send_c_get(QUERY, GET)
        peer.receive_message()
        peer.send_message(store_request(number=2), IMAGE, on=3)
        with in_background(lambda: told(responses)) as getting:
            refusal, _ = peer.receive_message()
            assert (refusal.Status, refusal.AffectedSOPInstanceUID) == (0x0122, "1.2.3")
            peer.send_message(get_response(0xA702))
            assert getting.result(WAIT) == [(0xA702, *NOTHING_COUNTED)]
    assert archive.requests == []


def test_objects_are_taken_from_a_provider_that_answers_no_proposal_of_roles(face, caplog):
    """It may go by what was proposed; the log says so once."""
    archive = Archive()
    roles = [build_role(CT, scp_role=True)]
    with raw_acceptor(face, archive.binding, contexts=[GET, CT], ext_neg=roles) as (assoc, peer):
        assert not assoc.accepted_contexts[1].as_scp
        responses = assoc.send_c_get(QUERY, GET)
        peer.receive_message()
        with in_background(lambda: told(responses)) as getting:
            for number in (2, 3):
                peer.send_message(store_request(number=number), IMAGE, on=3)
                assert peer.receive_message()[0].Status == SUCCESS
            peer.send_message(get_response(SUCCESS))
            assert getting.result(WAIT) == [(SUCCESS, *NOTHING_COUNTED)]
        assert assoc.accepted_contexts[1].as_scp
    assert len(archive.requests) == 2
    assert [each.message for each in caplog.records if "did not answer" in each.message] == [
        f"C-STORE-RQ is served for {CT}, though the peer did not answer whether we may serve it"
    ]


def test_an_object_is_refused_where_a_provider_answers_other_proposals_of_roles(face):
    archive = Archive()
    contexts = [GET, CT, HangingProtocolStorage]
    roles = [build_role(each, scp_role=True) for each in contexts[1:]]
    with raw_answer(face, archive.binding, contexts=contexts, ext_neg=roles) as (begun, peer):
        request = request_pdu(*(context(2 * n + 1, each) for n, each in enumerate(contexts)))
        peer.send(accept_pdu(request, user_information=[MaximumLengthNotification(), roles[1]]))
        responses = begun.result().send_c_get(QUERY, GET)
        peer.receive_message()
        peer.send_message(store_request(number=2), IMAGE, on=3)
        with in_background(lambda: told(responses)) as getting:
            assert peer.receive_message()[0].Status == 0x0122
            peer.send_message(get_response(0xA702))
            assert getting.result(WAIT) == [(0xA702, *NOTHING_COUNTED)]
    assert archive.requests == []


def get_response(status):
    return Message(
        Command.C_GET_RSP, MessageIDBeingRespondedTo=1, AffectedSOPClassUID=GET, Status=status
    )


def test_a_get_without_bulk_data(face, tmp_path):
    big = make_ct(instance="1.2.1")
    archive = Archive()
    missing = (PENDING, tmp_path / "none")
    results = [3, (PENDING, big), (PENDING, make_file(tmp_path, "1.2.2")), missing]
    server = provide(face, (evt.EVT_C_GET, yields(*results)))
    with ask(face, server, archive.binding) as assoc:
        model = CompositeInstanceRetrieveWithoutBulkDataGet
        assert told(assoc.send_c_get(QUERY, model))[-1] == (0xB000, None, 2, 1, 0)
    assert archive.instances == ["1.2.1", "1.2.2"]
    assert not any("PixelData" in each for each in archive.datasets)
    assert [each.PatientName for each in archive.datasets] == ["Doe^Jane"] * 2
    assert "PixelData" in big


def test_a_get_that_was_left_goes_on(face):
    """Its objects are still taken, and the same message id may be used again."""
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(5, *images(5))))
    with ask(face, server, archive.binding) as assoc:
        for status, _ in assoc.send_c_get(QUERY, GET):
            assert status.Status == PENDING
            break
        server.bind(evt.EVT_C_GET, yields(2, *images(2)))
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (SUCCESS, None, 2, 0, 0)
        assert len(archive.requests) == 7
        responses = assoc.send_c_get(QUERY, GET)
        assert assoc.send_c_echo().Status == SUCCESS
        assert len(archive.requests) == 9
        assert len(told(responses)) == 3


def test_a_get_that_was_left_goes_on_while_nothing_else_is_asked(face):
    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, yields(5, *images(5))))
    with ask(face, server, archive.binding) as assoc:
        assoc.send_c_get(QUERY, GET)
        assert eventually(lambda: len(archive.requests) == 5)


def test_a_handler_of_stored_objects_may_ask_for_more(face):
    seen = []

    def store(event):
        seen.append(event.assoc.send_c_echo().Status)
        return SUCCESS

    server = provide(face, (evt.EVT_C_GET, yields(2, *images(2))))
    with ask(face, server, (evt.EVT_C_STORE, store)) as assoc:
        # The provider serves the echo after the retrieval, whose objects wait for the echo.
        assoc.dimse_timeout = 0.3
        assert told(assoc.send_c_get(QUERY, GET))[-1] == LOST
    assert seen == []
    assert state(assoc) == ABORTED


# --- C-GET: peers that go, and deadlines ---


def test_the_user_goes_while_an_object_is_on_its_way(face):
    ended = threading.Event()

    def handler(event):
        try:
            yield 3
            yield from images(3)
        finally:
            ended.set()

    server = provide(face, (evt.EVT_C_GET, handler))
    with ask(face, server, (evt.EVT_C_STORE, lambda event: event.assoc.abort())) as assoc:
        acceptor = server.active_associations[0]
        assert told(assoc.send_c_get(QUERY, GET)) == [LOST]
    assert ended.wait(WAIT)
    acceptor.join(WAIT)
    assert state(acceptor) == ABORTED


def test_the_user_does_not_answer_an_object(face):
    ended = threading.Event()

    def handler(event):
        try:
            yield from (2, *images(2))
        finally:
            ended.set()

    server = provide(face, (evt.EVT_C_GET, handler), dimse_timeout=0.2)
    stuck = threading.Event()
    with ask(face, server, (evt.EVT_C_STORE, lambda event: stuck.wait(WAIT))) as assoc:
        acceptor = server.active_associations[0]
        with in_background(lambda: told(assoc.send_c_get(QUERY, GET))) as getting:
            assert ended.wait(WAIT)
            acceptor.join(WAIT)
            stuck.set()
            assert getting.result(WAIT) == [LOST]
    assert state(acceptor) == ABORTED
    assert acceptor.failure.stage == "response"


@pytest.mark.parametrize("model", [GET, MOVE])
@pytest.mark.parametrize("leave", ["abort", "close", "reset", "stay"])
def test_the_provider_does_not_finish(face, model, leave):
    command = Command.C_GET_RSP if model is GET else Command.C_MOVE_RSP
    pending = Message(
        command,
        MessageIDBeingRespondedTo=1,
        AffectedSOPClassUID=model,
        Status=PENDING,
        NumberOfRemainingSuboperations=1,
        NumberOfCompletedSuboperations=1,
        NumberOfFailedSuboperations=0,
        NumberOfWarningSuboperations=0,
    )
    with raw_acceptor(face, contexts=[model]) as (assoc, peer):
        if model is GET:
            responses = assoc.send_c_get(QUERY, GET)
        else:
            responses = assoc.send_c_move(QUERY, "STORE", MOVE)
        peer.receive_message()
        peer.send_message(pending)
        assert counts(next(responses)[0]) == (PENDING, 1, 1, 0, 0)
        if leave == "abort":
            peer.send(b"\x07\0\0\0\0\4\0\0\0\0")
        elif leave == "stay":
            assoc.dimse_timeout = 0.3
        else:
            getattr(peer, leave)()
        assert told(responses) == [LOST]
        assert assoc.failure.stage == ("response" if leave == "stay" else "data")
    assert state(assoc) == ABORTED


def test_objects_begin_the_deadline_of_a_get_anew(face):
    def handler(event):
        yield 6
        for each in images(6):
            assert not threading.Event().wait(0.5)
            yield each

    archive = Archive()
    server = provide(face, (evt.EVT_C_GET, handler))
    with ask(face, server, archive.binding, dimse_timeout=2) as assoc:
        assert told(assoc.send_c_get(QUERY, GET))[-1] == (SUCCESS, None, 6, 0, 0)


# --- C-MOVE ---


def move(face, *results, destination=None, **options):
    """Ask a provider whose handler yields `results` after the address of `destination`."""
    if destination is not None:
        results = (("127.0.0.1", destination.server_address[1]), *results)
    server = provide(face, (evt.EVT_C_MOVE, yields(*results)), **options)
    with ask(face, server, ae=face.ae("MOVER")) as assoc:
        responses = list(assoc.send_c_move(QUERY, "STORE", MOVE, msg_id=65534))
        assert assoc.send_c_echo().Status == SUCCESS
    return responses


def store(face, *handlers, **options):
    return face.serve(handlers, ae=face.ae("STORE", supported=OBJECTS, **options))


def test_a_move_sends_objects_elsewhere(face):
    archive = Archive()
    seen = []
    destination = store(face, archive.binding, (evt.EVT_ACCEPTED, lambda e: seen.append(e.assoc)))
    responses = move(face, 3, *images(3), destination=destination)
    assert told(responses) == [
        (PENDING, 2, 1, 0, 0),
        (PENDING, 1, 2, 0, 0),
        (PENDING, 0, 3, 0, 0),
        (SUCCESS, None, 3, 0, 0),
    ]
    assert archive.instances == ["1.2.1", "1.2.2", "1.2.3"]
    # It is said who asked for this, and by which operation (PS3.7 Section 9.1.1.1).
    assert {
        (each.MoveOriginatorApplicationEntityTitle, each.MoveOriginatorMessageID)
        for each in archive.requests
    } == {("MOVER", 65534)}
    assert [each.MessageID for each in archive.requests] == [65535, 1, 2]
    (association,) = seen
    assert (association.requestor.ae_title, association.acceptor.ae_title) == ("SCP", "STORE")
    association.join(WAIT)
    assert state(association) == RELEASED


@pytest.mark.parametrize("title", ["ÄRZTE".encode("latin-1"), "外科".encode(), b"A\\B", b"A\tB"])
def test_a_move_for_a_title_that_no_element_can_hold_names_no_originator(face, title):
    archive = Archive()
    address = ("127.0.0.1", store(face, archive.binding).server_address[1])
    server = provide(face, (evt.EVT_C_MOVE, yields(address, 1, *images(1))))
    request = request_pdu(context(1, MOVE), calling_ae_title="TITLE").encode()
    query = Message(
        Command.C_MOVE_RQ,
        MessageID=7,
        AffectedSOPClassUID=MOVE,
        Priority=0,
        MoveDestination="STORE",
        has_dataset=True,
    )
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.send(request.replace(b"TITLE".ljust(16), title.ljust(16)))
        peer.receive()
        peer.send_message(query, encode_dataset(QUERY, IMPLICIT))
        while (answer := peer.receive_message()[0]).Status == PENDING:
            pass
    assert (answer.Status, answer.NumberOfCompletedSuboperations) == (SUCCESS, 1)
    assert archive.requests[0].MoveOriginatorApplicationEntityTitle is None


@pytest.mark.parametrize("model", [HangingProtocolInformationModelMove, MOVE])
def test_a_move_of_files(face, tmp_path, model):
    archive = Archive()
    destination = store(face, archive.binding)
    results = [(PENDING, make_file(tmp_path, f"1.2.{number}")) for number in range(2)]
    address = ("127.0.0.1", destination.server_address[1])
    server = provide(face, (evt.EVT_C_MOVE, yields(address, 2, *results)))
    with ask(face, server) as assoc:
        assert told(assoc.send_c_move(QUERY, "STORE", model))[-1] == (SUCCESS, None, 2, 0, 0)
    assert archive.datasets == [dcmread(path) for _, path in results]


def test_a_move_to_an_unknown_destination(face):
    ((status, identifier),) = move(face, (None, None), 1)
    assert counts(status) == (0xA801, *NOTHING_COUNTED)
    assert identifier == Dataset()


@pytest.mark.parametrize("problem", ["closed", "rejects", "wrong contexts", "aborts", "silent"])
def test_a_move_to_a_destination_that_fails(face, problem):
    settings = {"acse_timeout": 0.3, "connection_timeout": 0.3}
    with RawServer() as listener, ThreadPoolExecutor(1) as pool:
        address = ("127.0.0.1", listener.port)
        if problem == "closed":
            listener.socket.close()
        elif problem == "aborts":
            pool.submit(lambda: listener.take().close())
        elif problem != "silent":
            supported = [VERIFICATION] if problem == "wrong contexts" else OBJECTS
            other = face.serve(ae=face.ae("STORE", supported=supported))
            other.ae.require_called_aet = problem == "rejects"
            other.ae_title = "ANOTHER" if problem == "rejects" else "STORE"
            address = ("127.0.0.1", other.server_address[1])
        ((status, _),) = move(face, address, 2, *images(2), **settings)
    assert counts(status) == (0xA801, *NOTHING_COUNTED)


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1",),
        ("127.0.0.1", "port"),
        "127.0.0.1",
        ("127.0.0.1", 104, {"no_such_option": 1}),
        ("127.0.0.1", 104, {"ae_title": ""}),
        ("127.0.0.1", 104, {"contexts": [build_context(CT)] * 129}),
    ],
)
def test_a_move_to_what_is_no_destination(face, address):
    ((status, _),) = move(face, address, 1, *images(1))
    assert counts(status) == (0xC515, *NOTHING_COUNTED)


def test_a_provider_that_requests_no_contexts(face):
    destination = store(face, Archive().binding)
    ((status, _),) = move(face, 1, *images(1), destination=destination, contexts=[])
    assert counts(status) == (0xC515, *NOTHING_COUNTED)


def test_what_a_move_says_of_the_association_to_make(face):
    archive = Archive()
    destination = store(face, archive.binding)
    accepted = []
    options = {
        "contexts": [build_context(CT, IMPLICIT)],
        "ae_title": "OTHER",
        "max_pdu": 4096,
        "evt_handlers": [(evt.EVT_ACCEPTED, lambda event: accepted.append(event.assoc))],
    }
    address = ("127.0.0.1", destination.server_address[1], options)
    assert told(move(face, address, 1, *images(1)))[-1] == (SUCCESS, None, 1, 0, 0)
    (association,) = accepted
    assert association.acceptor.ae_title == "OTHER"
    assert [each.abstract_syntax for each in association.accepted_contexts] == [CT]
    assert association.requestor.maximum_length == 4096


def test_a_move_over_tls(face, tls):
    serving, calling = tls
    archive = Archive()
    destination = face.serve(
        [archive.binding], ae=face.ae("STORE", supported=OBJECTS), ssl_context=serving
    )
    options = {"tls_args": (calling, "localhost")}
    address = ("127.0.0.1", destination.server_address[1], options)
    assert told(move(face, address, 1, *images(1)))[-1] == (SUCCESS, None, 1, 0, 0)
    assert archive.instances == ["1.2.1"]


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([SUCCESS, SUCCESS], (SUCCESS, None, 2, 0, 0)),
        ([0xB000, SUCCESS], (0xB000, None, 1, 0, 1)),
        ([0xC000, SUCCESS], (0xB000, None, 1, 1, 0)),
        ([0xC000, 0xA700], (0xA702, None, 0, 2, 0)),
    ],
)
def test_what_the_destination_answers_is_counted(face, statuses, outcome):
    destination = store(face, Archive(*statuses).binding)
    assert told(move(face, 2, *images(2), destination=destination))[-1] == outcome


def test_the_destination_goes_in_the_middle(face):
    def handler(event):
        if event.request.AffectedSOPInstanceUID == "1.2.2":
            event.assoc.abort()
        return SUCCESS

    destination = store(face, (evt.EVT_C_STORE, handler))
    *_, (status, identifier) = move(face, 4, *images(4), destination=destination)
    assert counts(status) == (0xB000, None, 1, 3, 0)
    assert identifier.FailedSOPInstanceUIDList == ["1.2.2", "1.2.3", "1.2.4"]


def test_the_destination_does_not_answer(face):
    stuck = threading.Event()
    destination = store(face, (evt.EVT_C_STORE, lambda event: stuck.wait(WAIT) and SUCCESS))
    responses = move(face, 2, *images(2), destination=destination, dimse_timeout=0.2)
    stuck.set()
    assert told(responses)[-1] == (0xA702, None, 0, 2, 0)


def test_the_user_of_a_move_goes_in_the_middle(face):
    ended, go_on = threading.Event(), threading.Event()
    archive = Archive()
    destination = store(face, archive.binding)

    def handler(event):
        try:
            yield "127.0.0.1", destination.server_address[1]
            yield 1000
            for result in images(1000):
                yield result
                go_on.wait(WAIT)
        finally:
            ended.set()

    server = provide(face, (evt.EVT_C_MOVE, handler))
    assoc = ask(face, server)
    assert next(assoc.send_c_move(QUERY, "STORE", MOVE))[0].Status == PENDING
    assoc.abort()
    go_on.set()
    assert ended.wait(WAIT)
    assert eventually(lambda: not destination.active_associations)
    assert len(archive.requests) < 1000


def test_a_move_to_the_one_that_asks(face):
    archive = Archive()
    own = store(face, archive.binding)
    responses = move(face, 2, *images(2), destination=own)
    assert told(responses)[-1] == (SUCCESS, None, 2, 0, 0)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], 0xC514),
        ([("127.0.0.1", 1)], 0xC513),
        ([("127.0.0.1", 1), "many"], 0xC513),
        ([("127.0.0.1", 1), 65536], 0xC516),
    ],
)
def test_a_move_handler_that_goes_wrong(face, results, status):
    ((told_status, _),) = move(face, *results)
    assert counts(told_status) == (status, *NOTHING_COUNTED)


def failing_after(*results):
    """Return a handler that yields `results`, and then fails."""

    def handler(event):
        yield from results
        raise ValueError("on purpose")

    return handler


@pytest.mark.parametrize(
    ("event", "results", "status"),
    [
        (evt.EVT_C_GET, [], 0xC413),
        (evt.EVT_C_MOVE, [], 0xC514),
        (evt.EVT_C_MOVE, [("127.0.0.1", 1)], 0xC513),
    ],
)
def test_the_status_tells_what_a_handler_failed_before(face, event, results, status):
    server = provide(face, (event, failing_after(*results)))
    with ask(face, server) as assoc:
        if event is evt.EVT_C_GET:
            responses = assoc.send_c_get(QUERY, GET)
        else:
            responses = assoc.send_c_move(QUERY, "STORE", MOVE)
        assert told(responses) == [(status, *NOTHING_COUNTED)]


@pytest.mark.parametrize(
    "handler",
    [
        failing_after(2, *images(2)),
        yields(2, *images(2), (0xFE00, None)),
        yields(2, *images(2), (0xA702, None)),
    ],
    ids=["fails", "cancels", "has another outcome"],
)
def test_what_a_handler_says_after_the_last_object_changes_nothing(face, handler):
    server = provide(face, (evt.EVT_C_GET, handler))
    with ask(face, server, Archive().binding) as assoc:
        assert told(assoc.send_c_get(QUERY, GET)) == [
            (PENDING, 1, 1, 0, 0),
            (PENDING, 0, 2, 0, 0),
            (SUCCESS, None, 2, 0, 0),
        ]


def test_a_handler_that_fails_in_the_middle(face):
    def handler(event):
        yield "127.0.0.1", destination.server_address[1]
        yield 3
        yield images(1)[0]
        raise ValueError("on purpose")

    destination = store(face, Archive().binding)
    server = provide(face, (evt.EVT_C_MOVE, handler))
    with ask(face, server) as assoc:
        assert told(assoc.send_c_move(QUERY, "STORE", MOVE)) == [
            (PENDING, 2, 1, 0, 0),
            (0xC511, None, 1, 2, 0),
        ]
    assert eventually(lambda: not destination.active_associations)


# --- What is asked wrongly ---


def test_a_request_that_cannot_be(face):
    server = provide(face)
    with face.associate(server, contexts=[VERIFICATION, MOVE]) as assoc:
        with pytest.raises(ValueError, match=r"no accepted presentation context"):
            assoc.send_c_get(QUERY, GET)
        for title in ("", "x" * 17, "back\\slash"):
            with pytest.raises(ValueError, match=r"MoveDestination"):
                assoc.send_c_move(QUERY, title, MOVE)
        assert assoc.send_c_echo().Status == SUCCESS
    with pytest.raises(RuntimeError, match=r"not established"):
        assoc.send_c_move(QUERY, "STORE", MOVE)


# --- Many ---


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no way to count open files")
def test_many_associations_at_once_leave_nothing_behind(face, tmp_path, monkeypatch):
    """30 of them query, get objects and files, and move some to a third party."""
    monkeypatch.setattr("dicomwire.threaded.threads.IDLE_TIME", 0.05)
    archive, moved = Archive(), Archive()
    destination = store(face, moved.binding, maximum_associations=400)
    address = ("127.0.0.1", destination.server_address[1])
    objects = [*images(2), (PENDING, make_file(tmp_path))]
    server = provide(
        face,
        (evt.EVT_C_FIND, lambda event: [(PENDING, QUERY)] * 20),
        (evt.EVT_C_GET, lambda event: iter((3, *objects))),
        (evt.EVT_C_MOVE, lambda event: iter((address, 1, objects[0]))),
        maximum_associations=400,
    )
    ae = face.ae()
    start = threading.Barrier(30)

    def work(number):
        with ask(face, server, archive.binding, ae=ae) as assoc:
            if number != "first":
                start.wait(3 * WAIT)
            found = told(assoc.send_c_find(QUERY, FIND))
            for _ in assoc.send_c_find(QUERY, FIND):
                break
            got = told(assoc.send_c_get(QUERY, GET))
            return len(found), got[-1], told(assoc.send_c_move(QUERY, "STORE", MOVE))[-1]

    def at_rest():
        workers = [each for each in threading.enumerate() if "pool" in each.name]
        return face.is_quiet(server) and face.is_quiet(destination) and not workers

    right = (21, (SUCCESS, None, 3, 0, 0), (SUCCESS, None, 1, 0, 0))
    assert work("first") == right
    assert eventually(at_rest)
    files = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(work, range(30))) == [right] * 30
    assert (len(archive.requests), len(moved.requests)) == (93, 31)
    assert eventually(at_rest)
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= files)
