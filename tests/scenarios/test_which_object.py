"""Which object is sent: its dataset says so, in a file of any writer; and a number is no file."""

from __future__ import annotations

import os
from io import BytesIO

import pytest
from pydicom import dcmread
from scenario import Recorder, make_ct

from dicomwire import AE, build_context, build_role, evt, send_many
from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import create_file_meta, file_head
from raw_peer import CT, EXPLICIT, IMPLICIT

GET = "1.2.840.10008.5.1.4.1.2.1.3"
OLD, NEW = "1.2.3.4", "1.2.3.9"


@pytest.fixture
def deidentified(tmp_path):
    """A file as the usual script leaves it: the file meta information is forgotten."""
    path = tmp_path / "image.dcm"
    ds = make_ct(instance=OLD)
    ds.file_meta = create_file_meta(
        sop_class_uid=CT, sop_instance_uid=OLD, transfer_syntax=EXPLICIT
    )
    ds.save_as(path, enforce_file_format=True)
    ds = dcmread(path)
    ds.SOPInstanceUID = NEW
    ds.save_as(path)
    assert ds.file_meta.MediaStorageSOPInstanceUID == OLD
    return path


@pytest.fixture
def stored():
    return Recorder(evt.EVT_C_STORE)


@pytest.fixture
def server(face, stored):
    ae = face.ae("SCP")
    ae.add_supported_context(CT, [EXPLICIT, IMPLICIT])
    return face.serve([(evt.EVT_C_STORE, lambda event: stored(event) or 0)], ae=ae)


def instances(stored):
    return [event.request.AffectedSOPInstanceUID for event in stored.events]


def address(server):
    return "127.0.0.1", server.server_address[1]


def warnings_of(caplog):
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("kind", ["path", "bytes", "open file"])
def test_the_dataset_says_which_object_it_is(
    face, server, stored, deidentified, caplog, kind, syntax
):
    data = deidentified.read_bytes()
    value = {"path": deidentified, "bytes": data, "open file": BytesIO(data)}[kind]
    with face.associate(server, contexts=[build_context(CT, syntax)]) as assoc:
        assert assoc.send_c_store(value).Status == 0
    assert instances(stored) == [NEW]
    (text,) = warnings_of(caplog)
    assert f"{NEW} is sent with the values of its dataset" in text
    assert "SOP Instance UID" in text
    assert OLD not in text


def test_and_so_it_does_among_many(server, stored, deidentified, caplog):
    (sent,) = send_many(AE(), address(server), [deidentified])
    assert (sent.sop_instance_uid, sent.code) == (NEW, 0)
    assert instances(stored) == [NEW]
    assert len(warnings_of(caplog)) == 1


def test_and_so_it_does_in_a_retrieval(face, stored, deidentified):
    def handle_get(event):
        yield 1
        yield 0xFF00, deidentified

    ae = face.ae("SCP")
    ae.add_supported_context(GET)
    ae.add_supported_context(CT, EXPLICIT, scu_role=True, scp_role=True)
    server = face.serve([(evt.EVT_C_GET, handle_get)], ae=ae)
    query = make_ct()
    del query.PixelData
    with face.associate(
        server,
        [(evt.EVT_C_STORE, lambda event: stored(event) or 0xA700)],
        contexts=[GET, build_context(CT, EXPLICIT)],
        ext_neg=[build_role(CT, scp_role=True)],
    ) as assoc:
        *_, (_, identifier) = assoc.send_c_get(query, GET)
    assert instances(stored) == [NEW]
    assert identifier.FailedSOPInstanceUIDList == NEW


def sloppy(tmp_path):
    """Return files that lack what they should have, of which the datasets are as they should be."""
    dataset = encode_dataset(make_ct(instance=NEW), EXPLICIT)
    head = file_head(CT, NEW, EXPLICIT)
    contents = [
        dataset,
        head[128:] + dataset,
        head[132:] + dataset,
        head.replace(b"\2\0\2\0UI", b"\2\0\1\0UI") + dataset,
        head.replace(b"\2\0\3\0UI", b"\2\0\1\0UI") + dataset,
        head.replace(b"\2\0\x10\0UI", b"\2\0\1\0UI") + dataset,
    ]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_files_of_sloppy_writers(face, server, stored, tmp_path):
    paths = sloppy(tmp_path)
    with face.associate(server, contexts=[build_context(CT, EXPLICIT)]) as assoc:
        assert [assoc.send_c_store(path).Status for path in paths] == [0] * len(paths)
        assert all(sent.is_stored for sent in assoc.send_c_stores(paths))
    assert all(sent.is_stored for sent in send_many(AE(), address(server), paths))
    assert instances(stored) == [NEW] * len(paths) * 3
    assert {event.dataset.SOPInstanceUID for event in stored.events} == {NEW}


# --- Numbers ---


def test_a_number_is_not_taken_for_a_file_descriptor(face, server, stored, deidentified):
    """The file that it stands for, which may be anything of the program's, stays open."""
    descriptor = os.open(deidentified, os.O_RDONLY)
    with face.associate(server, contexts=[build_context(CT, EXPLICIT)]) as assoc:
        with pytest.raises(TypeError, match="int cannot be sent"):
            assoc.send_c_store(descriptor)
        (sent,) = assoc.send_c_stores([descriptor])
        assert isinstance(sent.failure, TypeError)
        assert assoc.send_c_store(deidentified).Status == 0
    (sent,) = send_many(AE(), address(server), [descriptor])
    assert isinstance(sent.failure, TypeError)
    assert len(os.read(descriptor, 4)) == 4
    os.close(descriptor)
    assert instances(stored) == [NEW]
