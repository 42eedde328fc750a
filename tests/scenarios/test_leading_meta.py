"""Datasets that begin with file meta information: it is taken off wherever they are kept."""

from __future__ import annotations

import struct

import pytest
from pydicom import dcmread
from scenario import make_ct

from dicomwire import evt
from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.implementation import IMPLEMENTATION_CLASS_UID
from dicomwire.protocol.pdu import PDataTF
from raw_peer import CT, EXPLICIT, IMPLICIT, RawPeer, context, message_pdu, store_request

DEFLATED = "1.2.840.10008.1.2.1.99"
STORE = store_request("1.2.3.4")


def implicit(element, value):
    return struct.pack("<HHL", 2, element, len(value)) + value


def explicit(element, vr, value):
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


SYNTAX = EXPLICIT.encode() + b"\0"
JPEG = b"1.2.840.10008.1.2.4.50"
OURS = IMPLEMENTATION_CLASS_UID.encode()
WHOLE = explicit(1, b"OB", b"\0\1") + explicit(3, b"UI", b"9.8.7\0") + explicit(16, b"UI", JPEG)
LEADING = {
    "one element": implicit(16, JPEG),
    "a whole group": explicit(0, b"UL", struct.pack("<L", len(WHOLE))) + WHOLE,
    "a wrong group length": explicit(0, b"UL", struct.pack("<L", 2)) + WHOLE,
    "two groups": explicit(0, b"UL", struct.pack("<L", 8 + len(OURS)))
    + explicit(18, b"UI", OURS)
    + WHOLE,
}


def store(server, syntax, data, size=None):
    """Send a dataset in pieces of `size`, and return the status."""
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, CT, syntax))
        if size is None:
            peer.send_message(STORE, data)
        else:
            peer.send(message_pdu(1, STORE))
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            for piece in pieces[:-1]:
                peer.send(PDataTF([(1, 0, piece)]))
            peer.send(PDataTF([(1, 2, pieces[-1])]))
        response, _ = peer.receive_message()
        return response.Status


@pytest.mark.parametrize("leading", LEADING.values(), ids=LEADING)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("size", [None, 1])
def test_it_is_not_in_the_file(face, tmp_path, leading, syntax, size):
    dataset = encode_dataset(make_ct(), syntax)
    server = face.serve(receive_to=tmp_path)
    assert store(server, syntax, leading + dataset, size) == 0x0000
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert content[parse_file_meta(content).offset :] == dataset
    read = dcmread(file)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert read.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert read.PixelData == make_ct().PixelData


@pytest.mark.parametrize("threshold", [0, 1 << 20])
def test_it_is_not_in_what_a_handler_gets(face, threshold):
    seen = []

    def handle(event):
        seen.append((event.encoded_dataset(False), dcmread(event.dataset_path).PatientName))
        return 0x0000

    dataset = encode_dataset(make_ct(), EXPLICIT)
    server = face.serve([(evt.EVT_C_STORE, handle)], spool_threshold=threshold)
    assert store(server, EXPLICIT, LEADING["a whole group"] + dataset) == 0x0000
    assert seen == [(dataset, "Doe^Jane")]


@pytest.mark.parametrize(
    "leading",
    [
        struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, 0xFFFFFFFF),
        struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, 1 << 30),
        struct.pack("<HH2sHL", 2, 0x0102, b"OB", 0, 100_000),
        explicit(0x0102, b"OB", b"")[:-3],
        implicit(16, b"") * (1 << 17) + implicit(16, b""),
    ],
    ids=["undefined length", "too long", "truncated", "no whole header", "too many elements"],
)
def test_what_has_no_end_is_refused(face, tmp_path, leading):
    is_cut = len(leading) < 12
    dataset = b"" if is_cut else encode_dataset(make_ct(), EXPLICIT)
    server = face.serve(receive_to=tmp_path)
    assert store(server, EXPLICIT, leading + dataset) == 0xC000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"\2", b"\2\0", b"\2\0\0\0\0\0\0"])
def test_what_is_too_short_for_an_element_is_kept(face, tmp_path, data):
    server = face.serve(receive_to=tmp_path)
    assert store(server, IMPLICIT, data) == 0x0000
    (file,) = tmp_path.iterdir()
    assert file.read_bytes()[parse_file_meta(file.read_bytes()).offset :] == data


def test_what_is_deflated_is_kept_as_it_is(face, tmp_path):
    """It may begin with the same bytes, which are no element."""
    server = face.serve(receive_to=tmp_path)
    data = LEADING["one element"] + bytes(100)
    assert store(server, DEFLATED, data) == 0x0000
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert content[parse_file_meta(content).offset :] == data
