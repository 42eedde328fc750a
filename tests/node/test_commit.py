"""What becomes of objects, one by one and many at once: kept, refused, replaced; never lost."""

from __future__ import annotations

import errno
import os
import random
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pydicom.data
import pytest
from backends import Backend
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from spooling import CT, EXPLICIT, OpenArchive, all_at_once, encoded, make, spooled

from dicomwire.data.codec import decode_for, encode_dataset
from dicomwire.data.payloads import MemoryPayload
from dicomwire.node import commit, journal
from dicomwire.node.configuration import Duplicates
from dicomwire.node.heads import Origin
from dicomwire.node.index.writer import Placed, Writer
from dicomwire.node.journal import Batch
from dicomwire.node.maintenance import reconcile
from dicomwire.node.objects import folder, spool
from dicomwire.node.objects.spool import KEPT_IN_MEMORY, Spooled
from dicomwire.node.statuses import (
    CANNOT_UNDERSTAND,
    COERCED,
    DUPLICATE,
    INVALID_INSTANCE,
    MISMATCH,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from dicomwire.node.transcode import transcoded
from dicomwire.node.visible import StudyFilter

UID = "1.2.3.4.5"
LARGE = 300_000
WHEEL = Path(pydicom.data.__file__).parent / "test_files"
OTHER_UNCOMPRESSED = [
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
FIRST, REPLACE, BOTH, IGNORE = Duplicates


@pytest.fixture
def archive(tmp_path: Path, pair: Backend):
    with OpenArchive(tmp_path / "node", backend=pair) as opened:
        yield opened


@pytest.fixture
def in_folder(tmp_path: Path, backend: Backend):
    """An archive whose objects are files, for tests that change them."""
    with OpenArchive(tmp_path / "node", backend=Backend(backend.index)) as opened:
        yield opened


@pytest.mark.parametrize("pixels", [0, LARGE])
def test_what_is_acknowledged_is_there(archive: OpenArchive, pixels: int) -> None:
    data = encoded(UID, "x", pixels)
    assert archive.store(data, UID) == SUCCESS
    assert list(archive.datasets().values()) == [data]
    assert archive.notes() == {UID: ["x"]}
    assert archive.spool() == []


@pytest.mark.parametrize("policy", Duplicates)
def test_the_same_bytes_again_are_a_success_and_change_nothing(
    tmp_path: Path, policy: Duplicates
) -> None:
    with OpenArchive(tmp_path, policy) as archive:
        archive.store(encoded(UID, "x"), UID)
        files = archive.objects()
        assert archive.store(encoded(UID, "x"), UID) == SUCCESS
        assert archive.objects() == files
        assert archive.notes() == {UID: ["x"]}


@pytest.mark.parametrize(
    ("policy", "status", "notes"),
    [
        (FIRST, DUPLICATE, ["one"]),
        (REPLACE, SUCCESS, ["two"]),
        (BOTH, SUCCESS, ["one", "two"]),
        (IGNORE, SUCCESS, ["one"]),
    ],
)
def test_other_bytes_of_the_same_uid_go_by_the_policy(
    tmp_path: Path, pair: Backend, policy: Duplicates, status: int, notes: list[str]
) -> None:
    with OpenArchive(tmp_path, policy, pair) as archive:
        archive.store(encoded(UID, "one"), UID)
        assert archive.store(encoded(UID, "two"), UID) == status
        assert archive.notes() == {UID: notes}
        assert len(archive.datasets()) == len(archive.objects()) == len(notes)
        assert archive.spool() == []


def test_an_object_outside_the_studies_of_its_sender_is_refused(
    tmp_path: Path, pair: Backend
) -> None:
    mine = StudyFilter(("PatientID=P1", "ModalitiesInStudy=CT"))
    with OpenArchive(tmp_path, REPLACE, pair) as archive:
        archive.store(encoded("1.9", "theirs", PatientID="P2", StudyInstanceUID="1.2.9"), "1.9")
        for data, uid, status in [
            (encoded("1.1", PatientID="P2"), "1.1", NOT_AUTHORIZED),
            (encoded("1.1", Modality="MR"), "1.1", NOT_AUTHORIZED),
            (encoded("1.1", StudyInstanceUID="1.2.9"), "1.1", NOT_AUTHORIZED),
            (encoded("1.9", "mine"), "1.9", NOT_AUTHORIZED),
            (encoded("1.1"), "1.1", SUCCESS),
            (encoded("1.2", Modality="MR", SeriesInstanceUID="1.2.3.5"), "1.2", SUCCESS),
        ]:
            assert archive.store(data, uid, studies=mine) == status
        assert archive.notes() == {"1.1": [""], "1.2": [""], "1.9": ["theirs"]}
        assert archive.spool() == []


def encoded_anew(data: bytes) -> list[tuple[bytes, str]]:
    """Return a dataset in explicit VR little endian as other programs encode it."""
    ds = decode_for(data, EXPLICIT)
    group_length = struct.pack("<HH2sHL", 8, 0, b"UL", 4, 0)
    return [
        (group_length + data, EXPLICIT),
        *((encode_dataset(ds, syntax), syntax) for syntax in OTHER_UNCOMPRESSED),
    ]


@pytest.mark.parametrize("pixels", [0, LARGE])
@pytest.mark.parametrize("policy", Duplicates)
def test_the_same_content_encoded_anew_is_a_success_and_changes_nothing(
    tmp_path: Path, policy: Duplicates, pixels: int
) -> None:
    with OpenArchive(tmp_path, policy) as archive:
        data = encoded(UID, "x", pixels)
        archive.store(data, UID)
        for other, syntax in encoded_anew(data):
            assert archive.store(other, UID, syntax) == SUCCESS
        assert list(archive.datasets().values()) == [data]
        assert archive.spool() == []


def test_the_same_pixels_in_another_compression_are_the_same_content(tmp_path: Path) -> None:
    image = WHEEL / "MR_small.dcm"
    ds = dcmread(image)
    uid, sop_class = ds.SOPInstanceUID, ds.SOPClassUID
    with OpenArchive(tmp_path) as archive:
        statuses = []
        for syntax in (EXPLICIT, RLELossless, JPEGLSLossless, JPEG2000Lossless):
            other = transcoded(image, syntax)
            data = encode_dataset(other, syntax)
            statuses.append(archive.store(data, uid, syntax, sop_class))
        other.decompress(generate_instance_uid=False)
        other.PixelData = other.PixelData[:-2] + b"xx"
        other.compress(RLELossless, generate_instance_uid=False)
        data = encode_dataset(other, RLELossless)
        assert archive.store(data, uid, RLELossless, sop_class) == DUPLICATE
        assert len(archive.objects()) == 1
    assert statuses == [SUCCESS] * 4


def test_what_is_ignored_is_logged_with_its_uid_and_its_sender(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenArchive(tmp_path, IGNORE) as archive:
        caplog.clear()
        archive.store(encoded(UID, "one"), UID)
        assert archive.store(encoded(UID, "two"), UID) == SUCCESS
    text = "is ignored: the archive has another object of this UID"
    assert caplog.messages == [f"{UID} from SENDER {text}"]


def test_nothing_is_compared_unless_other_bytes_of_its_uid_are_there(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "compare", None)
    for _ in range(2):
        assert archive.store(encoded(UID, "one"), UID) == SUCCESS
    assert archive.store(encoded("1.9"), "1.9") == SUCCESS


def test_other_objects_are_stored_while_one_is_compared(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()
    compare = commit.compare
    statuses: list[int] = []

    def wait(*args):
        begun.set()
        assert ended.wait(30)
        return compare(*args)

    monkeypatch.setattr(commit, "compare", wait)
    archive.store(encoded(UID, "one"), UID)
    other = encoded(UID, "two")
    thread = threading.Thread(target=lambda: statuses.append(archive.store(other, UID)))
    thread.start()
    assert begun.wait(30)
    assert archive.store(encoded("1.9"), "1.9") == SUCCESS
    ended.set()
    thread.join()
    assert statuses == [DUPLICATE]


def test_what_cannot_be_compared_is_other_content(
    archive: OpenArchive, caplog: pytest.LogCaptureFixture
) -> None:
    data = encoded(UID, "one") + b"cut off"  # what is behind the last key is not looked at
    assert archive.store(data, UID) == SUCCESS
    assert archive.store(data + b".", UID) == DUPLICATE
    assert f"{UID} from SENDER cannot be compared" in caplog.messages[0]


def test_what_cannot_be_read_to_compare_it_is_neither_refused_nor_stored(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    archive.store(encoded(UID, "one"), UID)
    monkeypatch.setattr(commit, "compare", fail)
    assert archive.store(encoded(UID, "two"), UID) == OUT_OF_RESOURCES
    assert archive.notes() == {UID: ["one"]}
    assert archive.spool() == []


def test_what_is_gone_when_it_is_compared_is_not_there(
    in_folder: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = in_folder.committer._compare

    def lose(waiting: object) -> None:
        for path in in_folder.files():
            path.unlink()
        compare(waiting)

    monkeypatch.setattr(in_folder.committer, "_compare", lose)
    in_folder.store(encoded(UID, "one"), UID)
    assert in_folder.store(encoded(UID, "two"), UID) == SUCCESS
    assert in_folder.notes() == {UID: ["two"]}


def test_either_copy_may_come_again(tmp_path: Path) -> None:
    with OpenArchive(tmp_path, BOTH) as archive:
        for note in ("one", "two", "one", "two", "three"):
            assert archive.store(encoded(UID, note), UID) == SUCCESS
        assert archive.notes() == {UID: ["one", "two", "three"]}


def test_a_replacement_may_be_of_another_patient(tmp_path: Path) -> None:
    with OpenArchive(tmp_path, REPLACE) as archive:
        archive.store(encoded(UID, "one"), UID)
        other = encoded(UID, "two", PatientID="P2", StudyInstanceUID="1.9", SeriesInstanceUID="1.8")
        assert archive.store(other, UID) == SUCCESS
        assert archive.counts() == (1, 1, 1, 1)


def test_an_object_whose_file_was_lost_can_be_stored_again(in_folder: OpenArchive) -> None:
    for note in ("one", "two"):
        in_folder.store(encoded(UID, "one"), UID)
        in_folder.files()[0].unlink()
        assert in_folder.store(encoded(UID, note), UID) == SUCCESS
        assert in_folder.notes() == {UID: [note]}
        in_folder.files()[0].unlink()


@pytest.mark.parametrize(
    ("data", "uid", "status"),
    [
        (encoded(UID, StudyInstanceUID=""), UID, MISMATCH),
        (encoded(UID), "1.2", MISMATCH),
        (encoded(UID)[:60], UID, CANNOT_UNDERSTAND),
        (b"", UID, MISMATCH),
        (encoded(UID), "../../../tmp/x", INVALID_INSTANCE),
        (encoded("../../x"), "../../x", INVALID_INSTANCE),
        (encoded(UID), "/" + "1" * 100, INVALID_INSTANCE),
    ],
)
def test_what_cannot_be_indexed_is_refused_and_leaves_nothing(
    archive: OpenArchive, data: bytes, uid: str, status: int
) -> None:
    assert archive.store(data, uid) == status
    assert archive.objects() == archive.spool() == []
    assert sorted(path.name for path in archive.folder.parent.iterdir()) == ["node"]


def test_a_request_without_a_dataset_is_refused(archive: OpenArchive) -> None:
    origin = Origin("1.2", UID, "1.2.840.10008.1.2")
    assert archive.committer.store(None, origin) == CANNOT_UNDERSTAND
    assert archive.committer.store(MemoryPayload(bytearray()), origin) == CANNOT_UNDERSTAND


def test_hostile_values_are_stored_and_found_as_they_are(archive: OpenArchive) -> None:
    note = "'; DROP TABLE instance; -- % _ * ? \\ \" ../../x"
    data = encoded(UID, note, PatientID="%_*?'\"", PatientName="../..^\0^=/=")
    assert archive.store(data, UID) == SUCCESS
    assert archive.notes() == {UID: [note]}


@pytest.mark.only_with("sqlite-folder", "each pair has other steps")
@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (0, ["sync journal", "write file", "COMMIT"]),
        (300_000, ["sync file", "rename", "sync folder", "sync journal", "COMMIT"]),
    ],
    ids=["small", "large"],
)
def test_each_step_is_durable_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, expected: list[str]
) -> None:
    steps: list[str] = []

    def noted(step: str, real: Callable) -> Callable:
        def call(*args):
            steps.append(step)
            return real(*args)

        return call

    with OpenArchive(tmp_path) as archive:
        archive.store(encoded("1.1"), "1.1")  # after which there is a folder for the next
        monkeypatch.setattr(spool, "_sync_data", noted("sync file", spool._sync_data))
        monkeypatch.setattr(journal, "_sync_data", noted("sync journal", journal._sync_data))
        monkeypatch.setattr(os, "rename", noted("rename", os.rename))
        monkeypatch.setattr(folder, "_write_new", noted("write file", folder._write_new))
        monkeypatch.setattr(folder, "sync_folder", noted("sync folder", folder.sync_folder))
        archive.index._connection.connection.driver_connection.set_trace_callback(
            lambda statement: steps.append(statement) if statement == "COMMIT" else None
        )
        assert archive.store(encoded(UID, pixels=pixels), UID) == SUCCESS
        assert steps == expected


def test_after_closing_nothing_is_stored(archive: OpenArchive) -> None:
    archive.committer.close()
    assert archive.store(encoded(UID), UID) == OUT_OF_RESOURCES
    assert archive.objects() == archive.spool() == []


class _Counted(list):
    """A list that tells when something was added."""

    def __init__(self, values: list, added: threading.Semaphore) -> None:
        super().__init__(values)
        self._added = added

    def append(self, value: object) -> None:
        super().append(value)
        self._added.release()


class Gate:
    """Holds the first batch back until a number of objects wait behind it.

    Attributes
    ----------
    batches : list of int
        How many objects each batch had.
    """

    def __init__(self, archive: OpenArchive, waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[int] = []
        committer = archive.committer
        store_all = committer._store_all
        added = threading.Semaphore(0)

        def hold(batch, waiters) -> None:
            if not self.batches:
                with committer._lock:
                    committer._queue = _Counted(committer._queue, added)
                    missing = waiting - len(committer._queue)
                for _ in range(missing):
                    assert added.acquire(timeout=30)
            self.batches.append(len(batch))
            store_all(batch, waiters)

        monkeypatch.setattr(committer, "_store_all", hold)


def test_all_that_wait_become_one_batch_and_one_commit(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(archive, 15, monkeypatch)
    statuses: list[int] = []

    def store(number: int) -> None:
        uid = f"1.2.{number}"
        statuses.append(archive.store(encoded(uid, str(number)), uid))

    all_at_once([lambda number=number: store(number) for number in range(16)])
    assert gate.batches == [1, 15]
    assert statuses == [SUCCESS] * 16
    assert len(archive.datasets()) == 16


@pytest.mark.parametrize("policy", Duplicates)
def test_duplicates_within_a_batch_are_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Duplicates
) -> None:
    with OpenArchive(tmp_path, policy) as archive:
        gate = Gate(archive, 12, monkeypatch)
        results: list[tuple[str, int]] = []

        def store(note: str, uid: str = UID) -> None:
            results.append((note, archive.store(encoded(uid, note), uid)))

        # One that leads by itself, and four times each of three versions behind it.
        leader = threading.Thread(target=store, args=("", "1.1"))
        leader.start()
        all_at_once([lambda note=note: store(note) for note in "abc" * 4])
        leader.join()
        assert gate.batches[:2] == [1, 12]  # what is compared first comes again
        notes = archive.notes()
        assert notes.pop("1.1") == [""]
        (kept,) = notes.values()
        statuses = Counter(results)
        if policy is FIRST:
            assert len(kept) == 1
            assert all(
                status == (SUCCESS if note in ("", *kept) else DUPLICATE)
                for note, status in statuses
            )
        else:
            assert {status for _, status in statuses} == {SUCCESS}
            assert len(kept) == (3 if policy is BOTH else 1)
        assert len(archive.datasets()) == len(archive.objects()) == 1 + len(kept)
        assert archive.spool() == []


def test_a_batch_that_fails_fails_for_all_of_it_alone(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(archive, 7, monkeypatch)
    publish = archive.storage.objects.put

    def fail(objects: list[Spooled], names: list[str], batch: Batch) -> None:
        if len(objects) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(objects, names, batch)

    monkeypatch.setattr(archive.storage.objects, "put", fail)
    statuses: list[int] = []

    def store(number: int) -> None:
        uid = f"1.2.{number}"
        statuses.append(archive.store(encoded(uid), uid))

    all_at_once([lambda number=number: store(number) for number in range(8)])
    assert gate.batches == [1, 7]
    assert Counter(statuses) == {SUCCESS: 1, OUT_OF_RESOURCES: 7}
    assert len(archive.objects()) == len(archive.notes()) == 1
    monkeypatch.undo()
    assert archive.store(encoded("1.3"), "1.3") == SUCCESS


def test_one_that_fails_in_an_unforeseen_way_fails_alone(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(archive, 7, monkeypatch)
    add = Writer.add

    def trip(writer: Writer, objects: list[Placed]) -> list[Placed]:
        if any(placed.entry.instance_uid == "1.2.0" for placed in objects):
            raise ZeroDivisionError
        return add(writer, objects)

    monkeypatch.setattr(Writer, "add", trip)
    statuses: dict[str, int] = {}

    def store(uid: str) -> None:
        statuses[uid] = archive.store(encoded(uid), uid)

    all_at_once([lambda uid=f"1.2.{number}": store(uid) for number in range(8)])
    assert gate.batches[:2] == [1, 7]
    assert statuses.pop("1.2.0") == OUT_OF_RESOURCES
    assert set(statuses.values()) == {SUCCESS}
    assert len(archive.datasets()) == len(archive.objects()) == 7
    assert archive.spool() == []


def test_another_patient_id_than_the_study_has_is_a_warning(
    archive: OpenArchive, caplog: pytest.LogCaptureFixture
) -> None:
    assert archive.store(encoded("1.1"), "1.1") == SUCCESS
    assert archive.store(encoded("1.2", PatientID="SECRET"), "1.2") == COERCED
    assert archive.store(encoded("1.3"), "1.3") == SUCCESS
    assert archive.counts() == (1, 1, 1, 3)
    (message,) = caplog.messages
    assert "another Patient ID" in message
    assert "SECRET" not in message


def test_a_file_that_cannot_be_looked_for_is_not_missing(
    in_folder: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_folder.store(encoded(UID, "one"), UID) == SUCCESS

    def fail(path: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(folder, "is_missing", fail)
        assert in_folder.store(encoded(UID, "two"), UID) == OUT_OF_RESOURCES
    assert in_folder.notes() == {UID: ["one"]}


@pytest.mark.parametrize("policy", Duplicates)
def test_64_senders_with_duplicates_lose_nothing(tmp_path: Path, policy: Duplicates) -> None:
    """Every twentieth object comes a second time, from another sender, half of those changed."""
    each = 10
    numbers = [*range(64 * each), *random.Random(5).sample(range(64 * each), 64 * each // 20)]
    random.Random(6).shuffle(numbers)
    seen: set[int] = set()
    work: list[tuple[str, str, int]] = []
    for number in numbers:
        changed = number in seen and number % 2
        seen.add(number)
        work.append((f"1.2.{number}", "second" if changed else "first", number % 3 * 100_000))
    acknowledged: list[tuple[str, bytes]] = []
    refused: list[str] = []
    with OpenArchive(tmp_path, policy) as archive:

        def send(mine: list[tuple[str, str, int]]) -> None:
            for uid, note, pixels in mine:
                data = encoded(uid, note, pixels, SeriesInstanceUID=f"1.3.{len(uid)}")
                status = archive.store(data, uid)
                if status == SUCCESS:
                    acknowledged.append((uid, data))
                else:
                    assert status == DUPLICATE
                    refused.append(uid)

        all_at_once([lambda mine=work[start::64]: send(mine) for start in range(64)])
        kept = Counter(archive.datasets().values())
        assert set(kept.values()) == {1}
        notes = archive.notes()
    assert len(acknowledged) + len(refused) == len(work)
    assert (len(refused) > 0) is (policy is FIRST)
    assert set(notes) == {uid for uid, _, _ in work}
    for uid, data in acknowledged:
        if policy in (REPLACE, IGNORE) and ("second" in notes[uid]) != (b"second" in data):
            continue  # it was replaced, or came later
        assert data in kept
    for uid, versions in notes.items():
        sent = {note for other, note, _ in work if other == uid}
        assert set(versions) == sent if policy is BOTH else len(versions) == 1


def test_keys_far_behind_the_begin_are_found(archive: OpenArchive) -> None:
    ds = make(UID, "far")
    ds.add_new(0x00091010, "OB", bytes(200_000))
    data = encode_dataset(ds, EXPLICIT)
    assert archive.store(data, UID) == SUCCESS
    assert archive.notes() == {UID: ["far"]}
    with archive.index.made_anew() as empty:
        assert reconcile(archive.storage.objects, empty).indexed == 1
    assert archive.notes() == {UID: ["far"]}


def test_a_key_behind_an_element_that_ends_with_what_is_in_memory_is_found(
    archive: OpenArchive,
) -> None:
    for left in range(8):
        uid = f"1.5.{left}"
        data = encoded(uid, "behind")
        at = data.index(struct.pack("<HH", 0x0010, 0x0010))
        length = KEPT_IN_MEMORY - left - at - 12
        padding = struct.pack("<HH2sxxL", 0x0009, 0x1010, b"OB", length) + bytes(length)
        assert archive.store(data[:at] + padding + data[at:], uid) == SUCCESS
    assert set(map(tuple, archive.notes().values())) == {("behind",)}


def test_a_payload_is_read_in_pieces_of_any_size(archive: OpenArchive) -> None:
    for piece in (1_000, 65_536, 1_000_000):
        data = encoded(UID, "x", LARGE if piece > 1_000 else 0)
        payload = spooled(archive.storage.spool, data, piece)
        assert bytes(payload.view()) == data
        with payload.open() as file:
            assert file.read() == data
        assert (payload.path is None) is (len(data) <= KEPT_IN_MEMORY)
        payload.discard()


def test_objects_of_one_thread_are_one_batch(archive: OpenArchive) -> None:
    batches = archive.batches()
    assert store_together(archive, [(f"1.2.{n}", str(n)) for n in range(5)]) == [SUCCESS] * 5
    assert batches == [5]
    assert len(archive.notes()) == 5


def test_one_of_several_objects_that_fails_does_not_hinder_the_others(
    archive: OpenArchive,
) -> None:
    archive.store(encoded("1.2.1", "one"), "1.2.1")
    together = [("1.2.1", "two"), ("1.2.2", "a"), ("1.2.2", "b"), ("1.2.1", "one")]
    assert store_together(archive, together) == [DUPLICATE, SUCCESS, DUPLICATE, SUCCESS]
    assert archive.notes() == {"1.2.1": ["one"], "1.2.2": ["a"]}


def store_together(archive: OpenArchive, objects: list[tuple[str, str]]) -> list[int]:
    """Store objects, given by UID and note, from one thread at once; return their statuses."""
    committer, spool = archive.committer, archive.storage.spool
    payloads = [spooled(spool, encoded(uid, note)) for uid, note in objects]
    arrived = [
        committer.read(payload, Origin(CT, uid, EXPLICIT, "SENDER"))
        for payload, (uid, _) in zip(payloads, objects, strict=True)
    ]
    statuses = committer.store_all(arrived)
    for payload in payloads:
        payload.discard()
    return statuses
