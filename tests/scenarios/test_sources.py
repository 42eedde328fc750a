"""What can be sent besides paths and datasets: files in memory, open files, streams of chunks."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from scenario import ABORTED, eventually, make_ct, state

from dicomwire import Stream, build_context, build_role, evt
from raw_peer import CT, EXPLICIT, IMPLICIT

PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"


def dicom_file(size=3_000, syntax=EXPLICIT):
    buffer = BytesIO()
    make_ct(size, syntax=syntax).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def encoded(size=3_000):
    """Return a dataset as it is on the wire."""
    whole = dicom_file(size)
    file = BytesIO(whole)
    dcmread(file, stop_before_pixels=True)
    start = whole.index(b"\x08\x00\x16\x00UI")
    return whole[start:]


@pytest.fixture
def kept():
    return []


@pytest.fixture
def server(face, kept):
    def keep(event):
        kept.append((event.encoded_dataset(include_meta=False), event.context.transfer_syntax))
        return 0

    ae = face.ae("SCP")
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT])
    return face.serve([(evt.EVT_C_STORE, keep)], ae=ae)


@pytest.fixture
def assoc(face, server):
    with face.associate(server, contexts=[build_context(CT, EXPLICIT)]) as assoc:
        yield assoc


SIZES = [10, 3_000, 700_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_file_in_memory(assoc, kept, kind, size):
    assert assoc.send_c_store(kind(dicom_file(size))).Status == 0
    assert kept == [(encoded(size), EXPLICIT)]


@pytest.mark.parametrize("size", SIZES)
def test_an_open_file(assoc, kept, tmp_path, size):
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom_file(size))
    with path.open("rb") as file:
        assert assoc.send_c_store(file).Status == 0
        assert not file.closed
    with BytesIO(path.read_bytes()) as file:
        assert assoc.send_c_store(file).Status == 0
    assert kept == [(encoded(size), EXPLICIT)] * 2


def test_a_file_whose_syntax_was_not_accepted_is_converted(face, server, kept):
    with face.associate(server, contexts=[build_context(CT, IMPLICIT)]) as assoc:
        whole = dicom_file()
        assert assoc.send_c_store(whole).Status == 0
        assert assoc.send_c_store(BytesIO(whole)).Status == 0
    assert [syntax for _, syntax in kept] == [IMPLICIT, IMPLICIT]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("what", [b"no DICOM file", BytesIO(b"no DICOM file")])
def test_what_is_no_dicom_file(assoc, kept, what):
    with pytest.raises(ValueError, match="not a DICOM file"):
        assoc.send_c_store(what)
    assert assoc.is_established
    assert kept == []


@pytest.mark.parametrize("is_length_known", [True, False])
@pytest.mark.parametrize("piece", [1_000, 1_000_000])
@pytest.mark.parametrize("size", SIZES)
def test_a_stream(assoc, kept, size, piece, is_length_known):
    data = encoded(size)
    chunks = [data[at : at + piece] for at in range(0, len(data), piece)]
    stream = Stream(CT, "1.2.3.4", EXPLICIT, chunks, len(data) if is_length_known else None)
    assert assoc.send_c_store(stream).Status == 0
    assert kept == [(data, EXPLICIT)]


def test_a_stream_is_not_converted(assoc, kept):
    with pytest.raises(ValueError, match="no accepted presentation context"):
        assoc.send_c_store(Stream(CT, "1.2.3.4", IMPLICIT, [b"ab"]))
    assert assoc.is_established
    assert kept == []


def test_a_stream_that_breaks_aborts_since_part_of_it_is_sent(face, server, kept):
    def breaking():
        yield encoded(3_000_000)[:2_000_000]  # more than the buffer that it is sent from
        raise OSError("the archive is gone")

    assoc = face.associate(server, contexts=[build_context(CT, EXPLICIT)])
    with pytest.raises(OSError, match="archive is gone"):
        assoc.send_c_store(Stream(CT, "1.2.3.4", EXPLICIT, breaking()))
    assert eventually(lambda: state(assoc) == ABORTED)
    assert "sent in part" in str(assoc.failure)
    assert kept == []


def test_a_retrieval_sends_them_too(face, tmp_path):
    """What a handler of C-GET may yield: whatever can be sent."""
    whole, data = dicom_file(), encoded()

    def handle_get(event):
        yield 3
        yield 0xFF00, whole
        yield 0xFF00, BytesIO(whole)
        yield 0xFF00, Stream(CT, "1.2.3.4", EXPLICIT, [data[:99], data[99:]])

    kept = []

    def keep(event):
        kept.append(event.encoded_dataset(include_meta=False))
        return 0

    ae = face.ae("SCP")
    ae.add_supported_context(PATIENT_ROOT_GET)
    ae.add_supported_context(CT, EXPLICIT, scu_role=True, scp_role=True)
    server = face.serve([(evt.EVT_C_GET, handle_get)], ae=ae)
    query = make_ct()
    del query.PixelData
    with face.associate(
        server,
        [(evt.EVT_C_STORE, keep)],
        contexts=[PATIENT_ROOT_GET, build_context(CT, EXPLICIT)],
        ext_neg=[build_role(CT, scp_role=True)],
    ) as assoc:
        *_, (status, _) = assoc.send_c_get(query, PATIENT_ROOT_GET)
    assert (status.Status, status.NumberOfCompletedSuboperations) == (0, 3)
    assert kept == [data] * 3
