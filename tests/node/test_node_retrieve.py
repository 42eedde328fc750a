"""C-GET and C-MOVE of a node: bytes as stored, each in its syntax, and what cannot be sent."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
from asking import identifier
from backends import of_folder
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    RLELossless,
)
from running_node import (
    STUDY,
    Receiver,
    associate,
    counts,
    find,
    get,
    make_object,
    move,
    running,
    store,
    study_of,
)
from spooling import spool_files

from dicomwire import Stream, build_context, build_role
from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.data.file_meta import parse_file_meta
from dicomwire.node.configuration import Destination
from dicomwire.node.objects import folder
from dicomwire.node.query import Found
from dicomwire.node.retrieve import MOST_CONTEXTS, contexts_for
from dicomwire.node.server import Node
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelGet as GET

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
]


@contextmanager
def sending_to(receiver: Receiver, folder: Path, *contexts: Any) -> Iterator[Node]:
    """Run a node that knows `receiver` as HERE."""
    with receiver.listening(*contexts) as port:
        places = {"HERE": Destination("127.0.0.1", port)}
        with running(folder, destinations=places) as node:
            yield node


def test_get_sends_the_bytes_that_were_stored(tmp_path: Path) -> None:
    stored = WHEEL / "MR_small_implicit.dcm"
    receiver = Receiver()
    with running(tmp_path) as node:
        assert store(node, dcmread(stored)) == [0x0000]
        uid = dcmread(stored).StudyInstanceUID
        context = build_context(MRImageStorage, ImplicitVRLittleEndian)
        *_, (status, _) = get(node, receiver, study_of(uid), context)
    assert counts(status) == (0x0000, 1, 0)
    data = stored.read_bytes()
    assert receiver.objects[0][2] == data[parse_file_meta(data).offset :]


def test_get_sends_what_was_stored_without_the_file_meta_in_front_of_it(tmp_path: Path) -> None:
    receiver = Receiver()
    ds = make_object()
    syntax = ds.file_meta.TransferSyntaxUID
    dataset = encode_dataset(ds, syntax)
    leading = struct.pack("<HH2sH", 2, 0x0010, b"UI", 18) + b"1.2.840.10008.1.2\0"
    stream = Stream(ds.SOPClassUID, ds.SOPInstanceUID, syntax, [leading, dataset])
    context = build_context(ds.SOPClassUID, syntax)
    with running(tmp_path) as node:
        with associate(node, context) as assoc:
            assert assoc.send_c_store(stream).Status == 0x0000
        *_, (status, _) = get(node, receiver, study_of(), context)
    assert counts(status) == (0x0000, 1, 0)
    assert receiver.objects[0][2] == dataset


@pytest.mark.parametrize("operation", ["get", "move"])
def test_each_object_goes_in_its_own_syntax(tmp_path: Path, operation: str) -> None:
    objects = [make_object(number, syntax=syntax) for number, syntax in enumerate(SYNTAXES)]
    contexts = [build_context(CTImageStorage, syntax) for syntax in SYNTAXES]
    receiver = Receiver()
    with sending_to(receiver, tmp_path, build_context(CTImageStorage, [*SYNTAXES])) as node:
        assert set(store(node, *objects)) == {0x0000}
        if operation == "get":
            *_, (status, _) = get(node, receiver, study_of(), *contexts)
        else:
            *_, (status, _) = move(node, study_of(), "HERE")
    assert counts(status) == (0x0000, len(SYNTAXES), 0)
    assert [syntax for _, syntax, _ in receiver.objects] == SYNTAXES


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that has one image three times, of which two are compressed."""
    with running(tmp_path) as node:
        for number, name in enumerate(("MR_small", "MR_small_RLE", "MR_small_jp2klossless"), 1):
            ds = dcmread(WHEEL / f"{name}.dcm")
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
            ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, "1.2.3.0"
            assert store(node, ds) == [0x0000]
        yield node


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_for_a_peer_without_codecs_it_is_decompressed(node: Node, syntax: str) -> None:
    receiver = Receiver()
    *_, (status, _) = get(node, receiver, study_of(), build_context(MRImageStorage, syntax))
    assert counts(status) == (0x0000, 3, 0)
    pixels = set()
    for uid, used, data in receiver.objects:
        ds = decode_for(data, used)
        assert (used, ds.SOPInstanceUID) == (syntax, uid)
        pixels.add(ds.PixelData)
    assert pixels == {dcmread(WHEEL / "MR_small.dcm").PixelData}


def test_what_cannot_be_converted_fails_with_its_reason(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver()
    context = build_context(MRImageStorage, JPEGBaseline8Bit)
    *_, (status, failed) = get(node, receiver, study_of(), context)
    assert counts(status) == (0xA702, 0, 3)
    assert status.ErrorComment == "3 not sent: no context for MR Image Storage"
    assert failed.FailedSOPInstanceUIDList == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert "1.2.3.1 cannot be sent: no context for MR Image Storage" in caplog.text


def test_some_go_and_some_do_not(node: Node) -> None:
    receiver = Receiver()
    context = build_context(MRImageStorage, JPEG2000Lossless)
    *_, (status, _) = get(node, receiver, study_of(), context)
    assert counts(status) == (0x0000, 3, 0)  # compression without loss is as good


def test_a_context_for_another_class(node: Node) -> None:
    *_, (status, failed) = get(node, Receiver(), study_of(), CTImageStorage)
    assert counts(status) == (0xA702, 0, 3)
    assert len(failed.FailedSOPInstanceUIDList) == 3


def test_a_damaged_object_fails_alone(node: Node, tmp_path: Path) -> None:
    behind = of_folder(tmp_path)
    for name, content in behind.contents(tmp_path).items():
        if RLELossless.encode() in content[:1000]:
            behind.rewrite(tmp_path, name, content[:-4000])
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, failed) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0xB000, 2, 1)
    assert failed.FailedSOPInstanceUIDList == "1.2.3.2"


def test_a_frame_that_states_any_size_fails_alone_with_its_reason(
    node: Node, tmp_path: Path
) -> None:
    size = struct.pack(">2L", 64, 64)
    behind = of_folder(tmp_path)
    objects = behind.contents(tmp_path)
    (bomb,) = (name for name in objects if size in objects[name])
    armed = objects[bomb].replace(size, struct.pack(">2L", 2**31, 2**31), 1)
    behind.rewrite(tmp_path, bomb, armed)
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, failed) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0xB000, 2, 1)
    assert failed.FailedSOPInstanceUIDList == "1.2.3.3"
    assert status.ErrorComment == "1 not sent: a frame and its dataset state different sizes"


def test_what_was_converted_leaves_no_file(node: Node, tmp_path: Path) -> None:
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, _) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0x0000, 3, 0)
    assert spool_files(tmp_path) == []


@pytest.mark.only_with("folder", "a file that is read without end")
def test_a_node_that_is_stopped_waits_for_no_conversion(tmp_path: Path) -> None:
    ds = dcmread(WHEEL / "MR_small_RLE.dcm")
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    role = build_role(MRImageStorage, scp_role=True)
    with running(tmp_path, stop_timeout=0.1) as node:
        assert store(node, ds) == [0x0000]
        (stored,) = (tmp_path / "objects").rglob("*.dcm")
        stored.unlink()
        os.mkfifo(stored)  # whose reader waits for a writer, and then for its words
        with associate(node, GET, context, ext_neg=[role]) as assoc:
            responses = assoc.send_c_get(study_of(ds.StudyInstanceUID), GET)
            thread = threading.Thread(target=lambda: list(responses))
            thread.start()
            with stored.open("wb"):
                node.stop()
            thread.join()
    assert spool_files(tmp_path) == []


def test_a_lost_file_fails_alone(node: Node, tmp_path: Path) -> None:
    behind = of_folder(tmp_path)
    behind.lose(tmp_path, min(behind.contents(tmp_path)))
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, failed) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0xB000, 2, 1)
    assert str(failed.FailedSOPInstanceUIDList).startswith("1.2.3.")
    assert status.ErrorComment == "1 not sent: its file is missing"


@pytest.mark.only_with("folder", "the file system fails")
def test_an_object_whose_file_cannot_be_looked_for_is_a_failed_sub_operation(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder, "is_missing", fail)
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, _) = get(node, Receiver(), study_of(), context)
    assert counts(status) == (0xA702, 0, 3)
    assert status.ErrorComment == "3 not sent: its file cannot be read: Input/output error"


def test_what_the_receiver_refuses_fails(node: Node) -> None:
    receiver = Receiver()
    receiver.status = 0xA700
    context = build_context(MRImageStorage, ExplicitVRLittleEndian)
    *_, (status, _) = get(node, receiver, study_of(), context)
    assert counts(status) == (0xA702, 0, 3)


def test_nothing_to_send(node: Node) -> None:
    *_, (status, _) = get(node, Receiver(), study_of("1.2.4"), CTImageStorage)
    assert counts(status) == (0x0000, 0, 0)


def test_a_bad_identifier(node: Node) -> None:
    ds = study_of()
    ds.QueryRetrieveLevel = "EVERYTHING"
    ((status, identifier),) = get(node, Receiver(), ds, CTImageStorage)
    assert (status.Status, bool(identifier)) == (0xA900, False)
    assert "QueryRetrieveLevel" in status.ErrorComment
    ((status, _),) = move(node, ds, "STORESCP")
    assert status.Status == 0xA900


def test_an_identifier_that_cannot_be_decoded(node: Node) -> None:
    ds = Dataset()
    for _ in range(100):
        outer = Dataset()
        outer.ReferencedSeriesSequence = [ds]
        ds = outer
    for answers in (get(node, Receiver(), ds, CTImageStorage), move(node, ds, "STORESCP")):
        ((status, _),) = answers
        assert status.Status == 0xC000


@pytest.mark.parametrize("title", ["NOBODY", "storescp"])
def test_a_destination_that_is_not_configured(node: Node, title: str) -> None:
    ((status, _),) = move(node, study_of(), title)
    assert status.Status == 0xA801
    assert status.ErrorComment == f"no destination '{title}'"


def test_a_destination_that_does_not_answer(tmp_path: Path) -> None:
    with Receiver().listening(CTImageStorage) as port:
        pass  # and nobody listens any more
    with running(tmp_path, destinations={"HERE": Destination("127.0.0.1", port)}) as node:
        assert store(node, make_object()) == [0x0000]
        ((status, _),) = move(node, study_of(), "HERE")
    assert status.Status == 0xA801


def test_a_destination_that_takes_no_compression(tmp_path: Path) -> None:
    receiver = Receiver()
    ds = dcmread(WHEEL / "MR_small_RLE.dcm")
    with sending_to(receiver, tmp_path, MRImageStorage) as node:
        assert store(node, ds) == [0x0000]
        *_, (status, _) = move(node, study_of(ds.StudyInstanceUID), "HERE")
    assert counts(status) == (0x0000, 1, 0)
    ((_, syntax, data),) = receiver.objects
    assert decode_for(data, syntax).PixelData == dcmread(WHEEL / "MR_small.dcm").PixelData


def test_a_destination_learns_who_asked(tmp_path: Path) -> None:
    receiver = Receiver()
    with sending_to(receiver, tmp_path, CTImageStorage) as node:
        assert store(node, make_object()) == [0x0000]
        *_, (status, _) = move(node, study_of(), "HERE", title="ASKER")
    assert counts(status) == (0x0000, 1, 0)
    assert receiver.originators == [("ASKER", 1)]


def test_a_cancelled_retrieval_ends(tmp_path: Path) -> None:
    receiver = Receiver()
    storage = build_context(CTImageStorage, ExplicitVRLittleEndian)
    role = build_role(CTImageStorage, scp_role=True)
    with running(tmp_path) as node:
        assert set(store(node, *map(make_object, range(50)))) == {0x0000}
        handlers = receiver.handlers
        with associate(node, GET, storage, ext_neg=[role], evt_handlers=handlers) as assoc:
            statuses = []
            for status, _ in assoc.send_c_get(study_of(), GET):
                if not statuses:
                    assoc.send_c_cancel(1, query_model=GET)
                statuses.append(status)
    assert statuses[-1].Status == 0xFE00
    assert statuses[-1].NumberOfRemainingSuboperations > 0
    assert len(receiver.objects) < 50


def test_a_retrieval_ends_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    receiver = Receiver()
    storage = build_context(CTImageStorage, ExplicitVRLittleEndian)
    role = build_role(CTImageStorage, scp_role=True)
    with running(tmp_path) as node:
        assert set(store(node, *map(make_object, range(50)))) == {0x0000}
        handlers = receiver.handlers
        assoc = associate(node, GET, storage, ext_neg=[role], evt_handlers=handlers)
        next(assoc.send_c_get(study_of(), GET))
        assoc.abort()
        begun = len(receiver.objects)
        assert find(node, study_of())[0][1] is not None  # the node goes on
    assert begun < 50


def series_of(uid: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "SERIES"
    ds.SeriesInstanceUID = uid
    return ds


def test_strict_retrievals_have_all_unique_keys_above_unless_relational(tmp_path: Path) -> None:
    ds = series_of(f"{STUDY}.1")
    relational = SOPClassExtendedNegotiation(GET, b"\1\1")
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    with running(tmp_path, strict_queries=True) as node:
        assert store(node, make_object()) == [0x0000]
        ((status, _),) = get(node, Receiver(), ds, context)
        assert status.Status == 0xA900
        *_, (status, _) = get(node, Receiver(), ds, context, ext_neg=[relational])
        assert counts(status) == (0x0000, 1, 0)


def test_a_unique_key_above_may_be_missing_in_a_retrieval(tmp_path: Path) -> None:
    receiver = Receiver()
    ds = series_of(f"{STUDY}.1")
    with sending_to(receiver, tmp_path, CTImageStorage) as node:
        assert store(node, make_object(), make_object(study="1.2.4")) == [0x0000] * 2
        context = build_context(CTImageStorage, ExplicitVRLittleEndian)
        *_, (status, _) = get(node, receiver, ds, context)
        assert counts(status) == (0x0000, 1, 0)
        *_, (status, _) = move(node, ds, "HERE")
        assert counts(status) == (0x0000, 1, 0)
    assert {uid for uid, _, _ in receiver.objects} == {f"{STUDY}.1.1"}


@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
@pytest.mark.parametrize("value", [None, "", "*", "**", "*\\1.2.3", '""'])
def test_no_retrieval_is_for_the_whole_archive(
    tmp_path: Path, level: str, value: str | None
) -> None:
    """Without a value for the unique key of its own level nothing is sent."""
    keyword = {"STUDY": "Study", "SERIES": "Series", "IMAGE": "SOP"}[level] + "InstanceUID"
    receiver = Receiver()
    ds = identifier(level, PatientID="P1", **({} if value is None else {keyword: value}))
    with sending_to(receiver, tmp_path, CTImageStorage) as node:
        assert store(node, make_object()) == [0x0000]
        context = build_context(CTImageStorage, ExplicitVRLittleEndian)
        for *_, (status, _) in (get(node, receiver, ds, context), move(node, ds, "HERE")):
            assert status.Status == (0xA900 if value != '""' else 0x0000)
    assert receiver.objects == []


# --- What is proposed to destinations ---------------------------------------------------------


def found(sop_class: str, syntax: str) -> Found:
    return Found(sop_class, "1.2.3", syntax, "file")


def pairs(contexts: list) -> list[tuple[str, list[str]]]:
    return [(each.abstract_syntax, each.transfer_syntax) for each in contexts]


def test_a_context_for_each_syntax_and_one_to_fall_back_on() -> None:
    proposed = contexts_for(
        [
            found(MRImageStorage, JPEGBaseline8Bit),
            found(CTImageStorage, JPEGBaseline8Bit),
            found(CTImageStorage, ExplicitVRLittleEndian),
            found(CTImageStorage, JPEGBaseline8Bit),
        ]
    )
    assert pairs(proposed) == [
        (CTImageStorage, [JPEGBaseline8Bit]),
        (MRImageStorage, [JPEGBaseline8Bit]),
        (CTImageStorage, [ExplicitVRLittleEndian]),
        (MRImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
        (CTImageStorage, [ImplicitVRLittleEndian]),
    ]


def test_no_more_contexts_than_there_may_be() -> None:
    rare = [found(f"1.2.{number}", ExplicitVRLittleEndian) for number in range(200)]
    frequent = [found("1.3", ImplicitVRLittleEndian)] * 2
    proposed = contexts_for([*rare, *frequent])
    assert len(proposed) == MOST_CONTEXTS
    assert pairs(proposed)[0] == ("1.3", [ImplicitVRLittleEndian])
