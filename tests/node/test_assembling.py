"""STOW-RS of metadata in JSON or XML, with large values in parts of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from spooling import CT, OpenArchive, spool_files

from dicomwire.node.heads import Origin
from dicomwire.node.statuses import CANNOT_UNDERSTAND, MISMATCH
from dicomwire.node.web.assembling import JSON, UNKNOWN_SYNTAX, XML, Assembly
from dicomwire.node.web.incoming import Batches, Incoming, Result
from dicomwire.node.web.models import as_xml
from dicomwire.web.multipart import END_OF_CONTENT, Malformed, Parser, message_end, part_head

Bulk = tuple[str, str, bytes]
BYTES = "application/octet-stream"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[OpenArchive]:
    with OpenArchive(tmp_path / "archive") as archive:
        yield archive


def text(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [*values]}


def metadata(uid: str = "1.2.1", **more: dict[str, Any]) -> dict[str, Any]:
    return {
        "00080016": text("UI", CT),
        "00080018": text("UI", uid),
        "00100010": text("PN", {"Alphabetic": "Doe^Jane"}),
        "00100020": text("LO", "P1"),
        "0020000D": text("UI", "1.2.3"),
        "0020000E": text("UI", "1.2.3.4"),
        "00200013": text("IS", 7),
        "00280010": text("US", 2),
        "00280030": text("DS", 0.5, 0.5),
        **{tag.removeprefix("t"): element for tag, element in more.items()},
    }


def at(url: str, vr: str = "OW") -> dict[str, str]:
    return {"vr": vr, "BulkDataURI": url}


def request(kind: str, documents: list[bytes], values: list[Bulk]) -> bytes:
    parts = [(document, {"Content-Type": kind}) for document in documents]
    parts += [(data, {"Content-Type": own, "Content-Location": url}) for url, own, data in values]
    return b"".join(part_head("b", head) + data + END_OF_CONTENT for data, head in parts)


def store(
    archive: OpenArchive, body: bytes, kind: str = JSON, most: int | None = None
) -> list[Result]:
    batches = Batches(archive.committer, "", partial(Origin, source_ae="SENDER"))
    spool = archive.storage.spool
    incoming = Incoming(Parser("b"), batches, Assembly(kind, spool, batches, most))
    try:
        for begin in range(0, len(body), 50_000):
            incoming.feed(body[begin : begin + 50_000])
        incoming.feed(message_end("b"))
        return incoming.finish()
    finally:
        incoming.discard()
        assert spool_files(archive.folder) == []


def read(archive: OpenArchive) -> Dataset:
    [found] = read_all(archive)
    return found


def read_all(archive: OpenArchive) -> list[Dataset]:
    return [dcmread(BytesIO(archive.read(name))) for name in archive.objects()]


def as_json(*models: dict[str, Any]) -> list[bytes]:
    return [json.dumps(models).encode()]


@pytest.mark.parametrize("size", [10, 11, 300_000])
@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_and_a_value_become_an_object(archive: OpenArchive, kind: str, size: int) -> None:
    model = metadata(t7FE00010=at("bulk/1"))
    documents = as_json(model) if kind == JSON else [as_xml(model)]
    pixels = bytes(range(256)) * (size // 256 + 1)
    body = request(kind, documents, [("bulk/1", BYTES, pixels[:size])])
    [result] = store(archive, body, kind)
    assert (result.status, result.sop_instance_uid, result.series_uid) == (0, "1.2.1", "1.2.3.4")
    found = read(archive)
    assert found.PixelData == pixels[:size] + b"\0" * (size % 2)
    assert (found.PatientName, found.InstanceNumber, found.Rows) == ("Doe^Jane", 7, 2)
    assert list(found.PixelSpacing) == [0.5, 0.5]
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_several_objects_share_a_request(archive: OpenArchive) -> None:
    models = [metadata(f"1.2.{n}", t7FE00010=at(f"bulk/{n}")) for n in range(3)]
    values = [(f"bulk/{n}", BYTES, bytes([n]) * 10) for n in range(3)]
    results = store(archive, request(JSON, as_json(*models), values))
    assert [result.status for result in results] == [0] * 3
    assert sorted(each.PixelData[0] for each in read_all(archive)) == [0, 1, 2]


def test_values_in_sequences_and_of_all_kinds(archive: OpenArchive) -> None:
    item = {"54001010": at("wave"), "003A0010": text("US", 1)}
    model = metadata(
        t54000100={"vr": "SQ", "Value": [item, {}]},
        t00281201=at("palette"),
        t00420011=at("document", "OB"),
        t00209161=at("text", "UT"),
        t00281052=at("slope", "DS"),
        t7FE00008=at("float", "OF"),
    )
    values = [
        ("wave", BYTES, b"\1\2" * 100_000),
        ("palette", BYTES, b"\3\4" * 10),
        ("document", "application/pdf", b"%PDF!"),
        ("text", "text/plain", b"odd"),
        ("slope", BYTES, b"1.25"),
        ("float", BYTES, b"\0\0\x80\x3f"),
    ]
    [result] = store(archive, request(JSON, as_json(model), values))
    assert result.status == 0
    found = read(archive)
    assert found.WaveformSequence[0].WaveformData == b"\1\2" * 100_000
    assert len(found.WaveformSequence) == 2
    assert found[0x00281201].value == b"\3\4" * 10
    assert found.EncapsulatedDocument == b"%PDF!\0"
    assert found[0x00209161].value in ("odd", b"odd ")
    assert found[0x00281052].value == 1.25
    assert found[0x7FE00008].value == b"\0\0\x80\x3f"


def test_compressed_frames(archive: OpenArchive) -> None:
    model = metadata(t7FE00010=at("pixels"), t00280008=text("IS", 2))
    kind = 'image/jp2; transfer-syntax="1.2.840.10008.1.2.4.90"'
    values = [("pixels/frames/1", kind, b"first"), ("pixels/frames/2", kind, b"second")]
    [result] = store(archive, request(JSON, as_json(model), values))
    assert result.status == 0
    found = read(archive)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"
    frames = list(generate_frames(found.PixelData, number_of_frames=2))
    assert frames == [b"first\0", b"second"]


def test_text_of_all_languages(archive: OpenArchive) -> None:
    model = metadata(t00100010=text("PN", {"Alphabetic": "Yamada", "Ideographic": "山田"}))
    assert store(archive, request(JSON, as_json(model), []))[0].status == 0
    assert read(archive).PatientName.ideographic == "山田"


@pytest.mark.parametrize(
    ("more", "values", "status"),
    [
        ({"t7FE00010": at("x")}, [], CANNOT_UNDERSTAND),
        ({"t7FE00010": at("x")}, [("x", "image/jxl", b"")], UNKNOWN_SYNTAX),
        ({"t7FE00010": at("x")}, [("x", BYTES, b""), ("x", BYTES, b"")], CANNOT_UNDERSTAND),
        ({"t00281052": at("x", "DS")}, [("x", BYTES, b"1" * 70_000)], CANNOT_UNDERSTAND),
        ({"t00280010": text("US", "many")}, [], CANNOT_UNDERSTAND),
        ({"t00280010": text("US", 2**40)}, [], CANNOT_UNDERSTAND),
        ({"t00280010": "nonsense"}, [], CANNOT_UNDERSTAND),
        ({"t0020000D": text("UI")}, [], MISMATCH),
    ],
)
def test_objects_that_cannot_be_assembled(
    archive: OpenArchive, more: dict[str, Any], values: list[Bulk], status: int
) -> None:
    body = request(JSON, as_json(metadata(**more), metadata("1.2.2")), values)
    failed, other = sorted(store(archive, body), key=lambda result: -result.status)
    assert failed == Result(status, CT, "1.2.1")
    assert (other.status, other.sop_instance_uid) == (0, "1.2.2")


def test_a_value_that_is_too_large(archive: OpenArchive) -> None:
    body = request(JSON, as_json(metadata(t7FE00010=at("x"))), [("x", BYTES, b"1" * 200_000)])
    [result] = store(archive, body, most=100_000)
    assert result.is_too_large


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><NativeDicomModel>&a;</NativeDicomModel>'


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (JSON, b"{}"),
        (JSON, b"[1]"),
        (JSON, b"[{}"),
        (JSON, b"\xff"),
        (JSON, b"[" * 100_000),
        (JSON, b" " * (17 * 1024 * 1024)),
        (XML, b"nonsense"),
        (XML, b"<a/>"),
        (XML, LAUGHS),
        (XML, b"<NativeDicomModel><b/></NativeDicomModel>"),
        (
            XML,
            b'<NativeDicomModel><DicomAttribute tag="00280010" vr="US"><Value>x</Value>'
            b"</DicomAttribute></NativeDicomModel>",
        ),
    ],
)
def test_metadata_that_are_malformed(archive: OpenArchive, kind: str, document: bytes) -> None:
    with pytest.raises(Malformed):
        store(archive, request(kind, [document], []), kind)


def test_a_part_without_a_name_is_malformed(archive: OpenArchive) -> None:
    body = part_head("b", {"Content-Type": BYTES}) + END_OF_CONTENT
    with pytest.raises(Malformed, match="Content-Location"):
        store(archive, body)
