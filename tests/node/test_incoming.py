"""The objects of STOW-RS requests: received in pieces, stored in batches, answered one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from spooling import CT, EXPLICIT, OpenArchive, encoded, spool_files

from dicomwire.data.file_meta import file_head
from dicomwire.node.heads import Origin
from dicomwire.node.objects.spool import Spool
from dicomwire.node.statuses import (
    CANNOT_UNDERSTAND,
    DUPLICATE,
    INVALID_INSTANCE,
    MISMATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from dicomwire.node.web.incoming import Batches, Files, Incoming, Result
from dicomwire.node.web.stored import response_module, status_of
from dicomwire.web.multipart import END_OF_CONTENT, Malformed, Parser, message_end, part_head

HEADERS = {"Content-Type": "application/dicom"}
ROOT = "http://archive/dicom-web"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[OpenArchive]:
    with OpenArchive(tmp_path / "archive") as archive:
        yield archive


def dicom_file(uid: str, note: str = "", pixels: int = 0, **values: object) -> bytes:
    return file_head(CT, uid, EXPLICIT) + encoded(uid, note, pixels, **values)


def message(*parts: bytes, headers: dict[str, str] = HEADERS) -> bytes:
    return b"".join(part_head("b", headers) + part + END_OF_CONTENT for part in parts)


def incoming(archive: OpenArchive, study: str = "", spool: Spool | None = None) -> Incoming:
    batches = Batches(archive.committer, study, partial(Origin, source_ae="SENDER"))
    return Incoming(Parser("b"), batches, Files(spool or archive.storage.spool, batches))


def results_of(
    archive: OpenArchive, body: bytes, study: str = "", piece: int = 100_000
) -> list[Result]:
    request = incoming(archive, study)
    for at in range(0, len(body), piece):
        request.feed(body[at : at + piece])
    results = request.finish()
    request.discard()
    assert archive.spool() == []
    return results


def statuses(results: Sequence[Result]) -> list[int]:
    return [result.status for result in results]


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_objects_are_stored_however_the_request_is_split(archive: OpenArchive, piece: int) -> None:
    body = message(*(dicom_file(f"1.2.{n}", str(n)) for n in range(3))) + message_end("b")
    results = results_of(archive, body, piece=piece)
    assert results == [Result(SUCCESS, CT, f"1.2.{n}", "1.2.3", "1.2.3.4") for n in range(3)]
    assert archive.notes() == {f"1.2.{n}": [str(n)] for n in range(3)}


def test_a_large_object_goes_to_the_spool_and_becomes_the_file(archive: OpenArchive) -> None:
    data = dicom_file("1.2.1", "large", pixels=300_000)
    assert statuses(results_of(archive, message(data) + message_end("b"))) == [SUCCESS]
    [dataset] = archive.datasets().values()
    assert data.endswith(dataset)


def test_many_objects_are_few_batches(archive: OpenArchive) -> None:
    batches = archive.batches()
    files = [dicom_file(f"1.2.{n}") for n in range(100)]
    assert statuses(results_of(archive, message(*files) + message_end("b"))) == [SUCCESS] * 100
    assert batches == [64, 36]


def test_each_object_has_its_own_result(archive: OpenArchive) -> None:
    archive.store(encoded("1.2.1", "one"), "1.2.1")
    body = message(
        dicom_file("1.2.1", "one"),
        dicom_file("1.2.1", "two"),
        file_head(CT, "1.2.2", EXPLICIT) + encoded("1.2.9"),
        file_head(CT, "1.2.x", EXPLICIT) + encoded("1.2.x"),
        dicom_file("1.2.3")[:-20],
        b"no DICOM file" * 100,
        b"",
        dicom_file("1.2.4"),
    )
    body += message(b"%PDF", headers={"content-type": "application/pdf"}) + message_end("b")
    results = results_of(archive, body)
    assert sorted(statuses(results)) == sorted(
        [SUCCESS, DUPLICATE, *[MISMATCH] * 2, INVALID_INSTANCE, *[CANNOT_UNDERSTAND] * 3, SUCCESS]
    )
    assert status_of(results) == 202
    assert Result(INVALID_INSTANCE) in results  # text that is no UID is not sent back
    assert archive.notes() == {"1.2.1": ["one"], "1.2.4": [""]}
    assert {result.sop_instance_uid for result in results if result.status == SUCCESS} == {
        "1.2.1",
        "1.2.4",
    }


def test_objects_of_another_study_are_refused(archive: OpenArchive) -> None:
    body = message(dicom_file("1.2.1"), dicom_file("1.2.2", StudyInstanceUID="1.9"))
    results = results_of(archive, body + message_end("b"), study="1.9")
    assert sorted(statuses(results)) == [SUCCESS, MISMATCH]
    assert list(archive.notes()) == ["1.2.2"]


def test_an_object_that_is_too_large_ends_in_the_spool(
    archive: OpenArchive, tmp_path: Path
) -> None:
    with Spool(tmp_path / "small", 200_000) as spool:
        request = incoming(archive, spool=spool)
        body = message(dicom_file("1.2.1", pixels=300_000))
        for at in range(0, len(body), 50_000):
            request.feed(body[at : at + 50_000])
        assert spool_files(tmp_path / "small") == []  # already before the request ends
        request.feed(message_end("b"))
        results = request.finish()
    assert results == [Result(OUT_OF_RESOURCES, CT, "1.2.1", is_too_large=True)]
    assert status_of(results) == 413


def test_a_request_that_breaks_off_leaves_nothing(archive: OpenArchive) -> None:
    request = incoming(archive)
    request.feed(message(dicom_file("1.2.1"), dicom_file("1.2.2", pixels=300_000))[:-10])
    assert archive.spool()
    request.discard()
    assert archive.spool() == []
    assert archive.notes() == {}


def test_what_is_complete_before_a_fault_is_stored_and_answered(archive: OpenArchive) -> None:
    request = incoming(archive)
    request.feed(message(dicom_file("1.2.1")) + b"--b\r\nno colon\r\n")
    with pytest.raises(Malformed) as fault:
        request.feed(b"\r\n")
    results = request.finish_after(fault.value)
    assert statuses(results) == [SUCCESS, CANNOT_UNDERSTAND]
    assert status_of(results) == 202
    assert list(archive.notes()) == ["1.2.1"]


def test_a_request_without_its_end_and_without_objects_is_a_fault(archive: OpenArchive) -> None:
    request = incoming(archive)
    request.feed(message(dicom_file("1.2.1"))[:-10])
    with pytest.raises(Malformed) as fault:
        request.finish()
    with pytest.raises(Malformed, match="ends before"):
        request.finish_after(fault.value)
    request.discard()
    assert archive.notes() == {}


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([0x0000, 0x0000], 200),
        ([0x0000, 0xB000], 202),
        ([0xB000], 202),
        ([0x0000, 0xA700], 202),
        ([0xA700, 0xA700], 503),
        ([0xA700, 0xC000], 409),
        ([0x0111], 409),
        ([0x0124, 0x0124], 403),
        ([0x0124, 0x0111], 409),
    ],
)
def test_statuses_of_responses(results: list[int], status: int) -> None:
    assert status_of([Result(each, CT, "1.2") for each in results]) == status


def test_the_response_has_each_result() -> None:
    stored = Result(SUCCESS, CT, "1.2.1", "1.2", "1.2.9")
    module = response_module([stored], ROOT)
    assert module["00081190"] == {"vr": "UR", "Value": [f"{ROOT}/studies/1.2"]}
    assert list(module) == ["00081190", "00081199"]
    warned = Result(0xB000, CT, "1.2.2", "1.3", "1.3.9")
    failed = [Result(DUPLICATE, CT, "1.2.3"), Result(CANNOT_UNDERSTAND)]
    module = response_module([stored, warned, *failed], ROOT)
    assert module == {
        "00081190": {"vr": "UR"},
        "00081198": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.3"]},
                    "00081197": {"vr": "US", "Value": [DUPLICATE]},
                }
            ],
        },
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.1"]},
                    "00081190": {
                        "vr": "UR",
                        "Value": [f"{ROOT}/studies/1.2/series/1.2.9/instances/1.2.1"],
                    },
                },
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.2"]},
                    "00081190": {
                        "vr": "UR",
                        "Value": [f"{ROOT}/studies/1.3/series/1.3.9/instances/1.2.2"],
                    },
                    "00081196": {"vr": "US", "Value": [0xB000]},
                },
            ],
        },
        "0008119A": {
            "vr": "SQ",
            "Value": [{"00081197": {"vr": "US", "Value": [CANNOT_UNDERSTAND]}}],
        },
    }
