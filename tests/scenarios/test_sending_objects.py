"""C-STORE as its user sends it: datasets and files, transfer syntaxes, sizes, and mistakes."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from scenario import ABORTED, RELEASED, Recorder, in_background, make_ct, raw_acceptor, state

from dicomwire import build_context, build_role, evt
from dicomwire.protocol.command import Command, Message, decode_command
from dicomwire.protocol.items import MaximumLengthNotification, SCP_SCU_RoleSelectionNegotiation
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelGet as GET
from raw_peer import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    WAIT,
    RawPeer,
    RawServer,
    context,
    message_pdu,
    store_request,
)

BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"


@pytest.fixture
def archive(face):
    """A server that takes CT in any transfer syntax and tells what it got."""

    class Archive:
        def __init__(self):
            self.events = []
            ae = face.ae("SCP")
            ae.add_supported_context(CT, [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG, RLE])
            ae.add_supported_context(VERIFICATION)
            self.server = face.serve([(evt.EVT_C_STORE, self.handle)], ae=ae)

        def handle(self, event):
            self.events.append((event.request, event.context.transfer_syntax, event.dataset))
            return 0

        def associate(self, *syntaxes, **options):
            contexts = [build_context(CT, each) for each in syntaxes]
            return face.associate(self.server, contexts=contexts, **options)

    return Archive()


def equal(one, other):
    return [(e.tag, e.value) for e in one] == [(e.tag, e.value) for e in other]


# --- What is sent ---


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_a_dataset_in_each_encoding(archive, syntax):
    ds = make_ct(500, syntax=syntax)
    with archive.associate(syntax) as assoc:
        assert assoc.send_c_store(ds).Status == 0
    ((request, used, received),) = archive.events
    assert used == syntax
    assert equal(received, ds)
    assert request.MessageID == 1
    assert request.Priority == 2
    assert request.MoveOriginatorApplicationEntityTitle is None
    assert request.MoveOriginatorMessageID is None


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED])
def test_a_file(archive, tmp_path, syntax, as_path):
    path = tmp_path / "ct.dcm"
    make_ct(5000, syntax=syntax).save_as(path, enforce_file_format=True)
    with archive.associate(syntax) as assoc:
        assert assoc.send_c_store(as_path(path)).Status == 0
    ((request, used, received),) = archive.events
    assert used == syntax
    assert request.AffectedSOPInstanceUID == "1.2.3.4"
    assert equal(received, dcmread(path))


def test_a_file_goes_out_byte_for_byte(face, tmp_path):
    """Its dataset is sent as it is, though pydicom would write it in another way."""
    path = tmp_path / "ct.dcm"
    make_ct().save_as(path, enforce_file_format=True)
    odd = b"\x11\x00\x10\x00LO\x04\x00ab  \x11\x00\x01\x10UN\x00\x00\x02\x00\x00\x00xy"
    path.write_bytes(path.read_bytes() + odd)
    seen = []
    server = face.serve([(evt.EVT_C_STORE, lambda e: seen.append(e.encoded_dataset(False)) or 0)])
    with face.associate(server, contexts=[build_context(CT, EXPLICIT)]) as assoc:
        assert assoc.send_c_store(path).Status == 0
    assert path.read_bytes().endswith(seen[0])
    assert seen[0].endswith(odd)


def test_all_arguments(archive):
    with archive.associate(EXPLICIT) as assoc:
        status = assoc.send_c_store(
            make_ct(), msg_id=65535, priority=1, originator_aet="MOVER", originator_id=12
        )
    assert status.Status == 0
    request = archive.events[0][0]
    assert request.MessageID == 65535
    assert request.Priority == 1
    assert request.MoveOriginatorApplicationEntityTitle == "MOVER"
    assert request.MoveOriginatorMessageID == 12


# --- Which transfer syntax ---


def test_the_exact_syntax_wins(archive):
    with archive.associate(IMPLICIT, EXPLICIT, BIG_ENDIAN) as assoc:
        for syntax in (EXPLICIT, BIG_ENDIAN, IMPLICIT):
            assert assoc.send_c_store(make_ct(syntax=syntax)).Status == 0
    assert [used for _, used, _ in archive.events] == [EXPLICIT, BIG_ENDIAN, IMPLICIT]


@pytest.mark.parametrize(
    ("own", "accepted"), [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT), (EXPLICIT, DEFLATED)]
)
@pytest.mark.parametrize("kind", ["dataset", "file"])
def test_another_syntax_of_the_same_endianness_will_do(archive, tmp_path, own, accepted, kind):
    what = make_ct(500, syntax=own)
    if kind == "file":
        path = tmp_path / "ct.dcm"
        what.save_as(path, enforce_file_format=True)
        what = path
    with archive.associate(accepted) as assoc:
        assert assoc.send_c_store(what).Status == 0
    ((_, used, received),) = archive.events
    assert used == accepted
    assert equal(received, make_ct(500))


@pytest.mark.parametrize(
    ("own", "accepted"),
    [(EXPLICIT, BIG_ENDIAN), (BIG_ENDIAN, IMPLICIT), (JPEG, EXPLICIT), (EXPLICIT, JPEG)],
)
def test_syntaxes_that_do_not_fit(archive, own, accepted):
    with archive.associate(accepted) as assoc:
        with pytest.raises(ValueError, match="no accepted presentation context") as caught:
            assoc.send_c_store(make_ct(syntax=own))
        assert own in str(caught.value).split(";")[0]
        assert accepted in str(caught.value).split(";")[1]
        assert assoc.is_established
    assert state(assoc) == RELEASED


def test_compressed_pixels_go_as_they_are(archive):
    ds = make_ct(syntax=JPEG)
    ds.PixelData = encapsulate([b"\xff\xd8 not to be looked at \xff\xd9"])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    with archive.associate(JPEG, EXPLICIT) as assoc:
        assert assoc.send_c_store(ds).Status == 0
    ((_, used, received),) = archive.events
    assert used == JPEG
    assert received.PixelData == ds.PixelData


def test_a_dataset_that_is_not_encoded_as_it_says(archive, tmp_path, caplog):
    """It was read from an implicit VR file; its file meta says something else."""
    path = tmp_path / "ct.dcm"
    make_ct(syntax=IMPLICIT).save_as(path, enforce_file_format=True)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    with archive.associate(IMPLICIT, EXPLICIT) as assoc:
        assert assoc.send_c_store(ds).Status == 0
    assert archive.events[0][1] == IMPLICIT
    assert any("file_meta" in text for text in caplog.messages)
    ds = make_ct(syntax=EXPLICIT)
    ds.save_as(path, enforce_file_format=True)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = IMPLICIT
    with (
        archive.associate(IMPLICIT, EXPLICIT) as assoc,
        pytest.raises(AttributeError, match="file_meta"),
    ):
        assoc.send_c_store(ds)


# --- Mistakes ---


@pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID"])
def test_a_dataset_without_its_uids(archive, missing):
    ds = make_ct()
    delattr(ds, missing)
    with archive.associate(EXPLICIT) as assoc:
        with pytest.raises(AttributeError, match=missing):
            assoc.send_c_store(ds)
        assert assoc.is_established


def test_a_dataset_without_file_meta(archive):
    ds = make_ct()
    with archive.associate(EXPLICIT) as assoc:
        del ds.file_meta.TransferSyntaxUID
        with pytest.raises(AttributeError, match="TransferSyntaxUID"):
            assoc.send_c_store(ds)
        del ds.file_meta
        with pytest.raises(AttributeError, match="TransferSyntaxUID"):
            assoc.send_c_store(ds)
        with pytest.raises(AttributeError, match="SOPClassUID"):
            assoc.send_c_store(Dataset())


def test_a_dataset_that_cannot_be_encoded(archive):
    ds = make_ct()
    ds["Rows"]._value = "many"
    with archive.associate(EXPLICIT) as assoc:
        with pytest.raises(ValueError, match="encode"):
            assoc.send_c_store(ds)
        assert assoc.send_c_store(make_ct()).Status == 0


def test_files_that_are_none(archive, tmp_path):
    text = tmp_path / "text"
    text.write_text("no DICOM file")
    with archive.associate(EXPLICIT) as assoc:
        with pytest.raises(FileNotFoundError):
            assoc.send_c_store(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="DICOM"):
            assoc.send_c_store(text)
        with pytest.raises(OSError, match=r"directory|Permission"):
            assoc.send_c_store(tmp_path)
        assert assoc.send_c_store(make_ct()).Status == 0
    assert state(assoc) == RELEASED


def test_after_the_end(archive):
    with archive.associate(EXPLICIT) as assoc:
        pass
    with pytest.raises(RuntimeError, match="not established"):
        assoc.send_c_store(make_ct())
    with pytest.raises(RuntimeError, match="not established"):
        assoc.send_c_echo()


@pytest.mark.parametrize("wrong", [{"msg_id": 65536}, {"msg_id": -1}, {"priority": 70000}])
def test_numbers_that_do_not_fit_leave_the_association_usable(archive, wrong):
    with archive.associate(EXPLICIT) as assoc:
        with pytest.raises(ValueError, match=r"\d"):
            assoc.send_c_store(make_ct(), **wrong)
        assert assoc.send_c_store(make_ct()).Status == 0


def test_a_file_that_shrinks_while_it_is_sent(face, tmp_path):
    path = tmp_path / "ct.dcm"
    make_ct(8 << 20).save_as(path, enforce_file_format=True)
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0), *log.handlers])

    def shrink(event):
        with path.open("r+b") as file:
            file.truncate(4 << 20)

    assoc = face.associate(
        server, [(evt.EVT_DIMSE_SENT, shrink)], contexts=[build_context(CT, EXPLICIT)]
    )
    with pytest.raises((OSError, EOFError)):
        assoc.send_c_store(path)
    assert state(assoc) == ABORTED  # half of a message is out: nothing can follow it
    assert log.wait_for(evt.EVT_ABORTED).assoc.failure.by_peer


def test_a_file_that_shrinks_before_anything_of_it_has_left(face, tmp_path):
    path = tmp_path / "ct.dcm"
    make_ct(30_000).save_as(path, enforce_file_format=True)
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0)])

    def shrink(event):
        with path.open("r+b") as file:
            file.truncate(20_000)

    with face.associate(
        server, [(evt.EVT_DIMSE_SENT, shrink)], contexts=[build_context(CT, EXPLICIT)]
    ) as assoc:
        with pytest.raises(EOFError):
            assoc.send_c_store(path)
        assert assoc.send_c_store(make_ct()).Status == 0x0000


# --- Sizes ---


@pytest.mark.parametrize("maximum", [0, 8, 100, 16382, 200_000, 0xFFFFFFFF])
def test_the_peers_maximum_length_is_kept(face, maximum):
    received = []

    def watch(event):
        received.append(max(len(data) + 6 for _, _, data in event.pdu.values))

    ae = face.ae("SCP", supported=[CT])
    ae.maximum_pdu_size = maximum
    digests = []

    def handle(event):
        digests.append(hashlib.sha1(event.dataset.PixelData).digest())
        return 0

    server = face.serve([(evt.EVT_C_STORE, handle)], ae=ae)
    ds = make_ct(2000 if maximum < 100 else 400_000)
    with face.associate(server) as assoc:
        server.bind(evt.EVT_PDU_RECV, lambda e: watch(e) if hasattr(e.pdu, "values") else None)
        assert assoc.send_c_store(ds).Status == 0
    assert digests == [hashlib.sha1(ds.PixelData).digest()]
    assert max(received) <= (maximum or 1 << 20)
    assert len(received) > 2 or maximum not in (8, 100, 16382)


@pytest.mark.parametrize("maximum", [12, 64, 16382])
def test_the_requestors_maximum_length_is_kept_by_the_acceptor(face, maximum):
    received = []

    def watch(event):
        if hasattr(event.pdu, "values"):
            received.append(max(len(data) + 6 for _, _, data in event.pdu.values))

    server = face.serve()
    with face.associate(server, [(evt.EVT_PDU_RECV, watch)], max_pdu=maximum) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert max(received) <= maximum


@pytest.mark.parametrize("size", [1, 7, 12, 13, 500])
def test_bytes_that_come_in_pieces(face, size):
    """Whatever the network makes of what we send, it is one message."""
    seen = []
    server = face.serve([(evt.EVT_C_STORE, lambda e: seen.append(e.encoded_dataset(False)) or 0)])
    store = store_request(number=3, Priority=0)
    content = b"\x10\x00\x10\x00\x04\x00\x00\x00A^B " + bytes(0)
    packed = message_pdu(1, store, content)
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, CT))
        for start in range(0, len(packed), size):
            peer.send(packed[start : start + size])
        response, _ = peer.receive_message()
        assert response.Status == 0
        peer.send(packed * 3)  # and three at once
        for _ in range(3):
            response, _ = peer.receive_message()
            assert response.MessageIDBeingRespondedTo == 3
    assert seen == [content] * 4


def test_responses_that_come_in_pieces(face):
    with raw_acceptor(face) as (assoc, peer):
        with in_background(assoc.send_c_echo) as sending:
            request, _ = peer.receive_message()
            packed = message_pdu(
                1,
                Message(
                    Command.C_ECHO_RSP,
                    MessageIDBeingRespondedTo=request.MessageID,
                    AffectedSOPClassUID=VERIFICATION,
                    Status=0,
                ),
            )
            for index in range(len(packed)):
                peer.send(packed[index : index + 1])
            assert sending.result(WAIT).Status == 0
        assoc.abort()


def test_a_large_object_through_small_pdus_from_a_file(face, tmp_path):
    path = tmp_path / "large.dcm"
    ds = make_ct(20 << 20)
    ds.save_as(path, enforce_file_format=True)
    ae = face.ae("SCP", supported=[CT])
    ae.maximum_pdu_size = 1000
    server = face.serve(ae=ae, receive_to=tmp_path)
    with face.associate(server, contexts=[build_context(CT, EXPLICIT)]) as assoc:
        assert assoc.send_c_store(path).Status == 0
    (received,) = [each for each in tmp_path.iterdir() if each != path]
    assert dcmread(received).PixelData == ds.PixelData


def test_the_peer_that_answers_before_it_has_read_all(face):
    """A failure response may come while we are still sending; it counts in the end."""
    with raw_acceptor(face, max_pdu=0) as (assoc, peer):
        go_on = threading.Event()

        def serve():
            head = peer.receive()
            request = decode_command(memoryview(head.values[0][2]))
            peer.send_message(
                Message(
                    Command.C_STORE_RSP,
                    MessageIDBeingRespondedTo=request.MessageID,
                    AffectedSOPClassUID=CT,
                    AffectedSOPInstanceUID="1.2.3.4",
                    Status=0xA700,
                ),
                on=head.values[0][0],
            )
            while not peer.receive().values[-1][1] & 2:
                pass
            go_on.set()

        with in_background(serve) as serving:
            assert assoc.send_c_store(make_ct(1 << 20)).Status == 0xA700
            serving.result(WAIT)
        assert go_on.is_set()
        assoc.abort()


def test_responses_are_taken_during_sending_also_after_a_request_had_to_wait(face):
    """The peer reads nothing until it has sent all; once before, a C-CANCEL came while we sent."""
    log = Recorder(evt.EVT_DATA_RECV)
    match = Dataset()
    match.TextValue = "x" * (8 << 20)  # more than fits between the ends
    bound = [*log.handlers, (evt.EVT_C_FIND, lambda event: iter([(0xFF00, match)]))]
    roles = [build_role(FIND, True, True)]
    options = {"contexts": [FIND, GET, CT], "ext_neg": roles, "write_timeout": WAIT}
    with RawServer() as listener:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # inherited
        with in_background(lambda: face.associate(listener.port, bound, **options)) as begun:
            peer = listener.take()
            peer.accept(user_information=[SCP_SCU_RoleSelectionNegotiation(FIND, True, True)])
        assoc = begun.result()
    with peer:
        assoc.send_c_get(Dataset(), GET, msg_id=9).close()
        peer.receive_message()
        find = Message(
            Command.C_FIND_RQ, MessageID=7, AffectedSOPClassUID=FIND, Priority=2, has_dataset=True
        )
        peer.send_message(find, b"")
        peer.socket.recv(1, socket.MSG_PEEK)
        came = len(log.events)
        peer.send_message(Message(Command.C_CANCEL_RQ, MessageIDBeingRespondedTo=7))
        log.wait_for(evt.EVT_DATA_RECV, came + 1)
        assert [peer.receive_message()[0].Status for _ in range(2)] == [0xFF00, 0x0000]

        pending = Message(
            Command.C_GET_RSP, MessageIDBeingRespondedTo=9, AffectedSOPClassUID=GET, Status=0xFF00
        )
        with in_background(lambda: assoc.send_c_store(make_ct(8 << 20))) as storing:
            peer.socket.recv(1, socket.MSG_PEEK)
            # 3 MB, which fit neither into this buffer nor into the receiver's.
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            peer.send(message_pdu(3, pending) * 30_000)
            request, _ = peer.receive_message()
            peer.send_message(
                Message(
                    Command.C_STORE_RSP,
                    MessageIDBeingRespondedTo=request.MessageID,
                    AffectedSOPClassUID=CT,
                    Status=0,
                ),
                on=5,
            )
            assert storing.result(WAIT).Status == 0
        assoc.abort()


def test_the_maximum_that_a_peer_forgot_to_tell(face):
    with raw_acceptor(face) as (assoc, peer):
        assert assoc.acceptor.maximum_length == MaximumLengthNotification().maximum_length_received
        assoc.abort()
        assert peer.receive()
