"""Files of the node: spooled, sealed, placed; nothing half-written, nothing outside the folder."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from spooling import CT, EXPLICIT, LocalStore, encoded, spooled

from dicomwire.data.file_meta import FileFormatError, file_head
from dicomwire.data.sinks import SinkFull
from dicomwire.node.files import StorageInUse, is_missing
from dicomwire.node.heads import HEAD_SIZE, Origin, digest_of, read_head
from dicomwire.node.objects import folder as folder_module
from dicomwire.node.objects.spool import KEPT_IN_MEMORY, Spool

SMALL = encoded("1.2.3.4.5", "small")
LARGE = encoded("1.2.3.4.5", "large", pixels=KEPT_IN_MEMORY * 4)
ORIGIN = Origin(CT, "1.2.3.4.5", EXPLICIT, "SENDER")


@pytest.fixture
def storage(tmp_path: Path):
    with LocalStore(tmp_path / "node") as opened:
        yield opened


def files_in(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock" and path.parent.name != "journal"
    ]


@pytest.mark.parametrize("data", [SMALL, LARGE, b""], ids=["small", "large", "empty"])
def test_a_published_file_is_a_dicom_file_of_the_dataset(storage: LocalStore, data: bytes) -> None:
    payload = spooled(storage.spool, data)
    assert payload.view().tobytes() == data
    payload.seal(ORIGIN)
    (name,) = storage.put([payload])
    file = storage.objects.path(name).read_bytes()
    assert file[:132] == bytes(128) + b"DICM"
    assert file[HEAD_SIZE:] == data
    meta = pydicom.filereader.read_file_meta_info(storage.objects.path(name))
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == "SENDER"
    assert files_in(storage.folder) == [storage.objects.path(name)]


def test_the_head_has_one_length_whatever_the_uids(storage: LocalStore) -> None:
    payload = spooled(storage.spool, SMALL)
    payload.seal(Origin("1." + "2" * 62, "1." + "3" * 62, "1." + "4" * 62, "S" * 16))
    (name,) = storage.put([payload])
    file = storage.objects.path(name).read_bytes()
    origin, offset, seal = read_head(file, len(file))
    assert offset == HEAD_SIZE
    assert seal is not None
    assert seal.digest == digest_of(BytesIO(SMALL), 0, origin.transfer_syntax_uid)


def test_a_file_knows_its_digest_and_its_length(storage: LocalStore) -> None:
    payload = spooled(storage.spool, LARGE)
    payload.seal(ORIGIN)
    (name,) = storage.put([payload])
    file = storage.objects.path(name).read_bytes()
    origin, _, seal = read_head(file, len(file))
    assert (origin.sop_class_uid, origin.sop_instance_uid) == (CT, "1.2.3.4.5")
    assert seal == (digest_of(BytesIO(LARGE), 0, EXPLICIT), len(LARGE), payload.received)
    with pytest.raises(FileFormatError, match="length"):
        read_head(file, len(file) - 1)


def test_a_file_of_others_has_no_seal() -> None:
    file = file_head(CT, "1.2.3.4.5", EXPLICIT) + SMALL
    origin, offset, seal = read_head(file, len(file))
    assert (origin, file[offset:], seal) == (ORIGIN._replace(source_ae=""), SMALL, None)


def test_names_are_random_and_folders_fill_one_after_the_other(
    storage: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "FILES_PER_FOLDER", 10)
    names = []
    for _ in range(4):
        batch = [spooled(storage.spool, SMALL) for _ in range(6)]
        for payload in batch:
            payload.seal(ORIGIN)
        names += storage.put(batch)
    assert len(set(names)) == 24
    folders = [name.rpartition("/")[0] for name in names]
    assert [folders.count(folder) for folder in dict.fromkeys(folders)] == [10, 10, 4]
    assert list(storage.objects.names()) == sorted(names)


def test_discarding_leaves_nothing(storage: LocalStore) -> None:
    for data in (SMALL, LARGE):
        spooled(storage.spool, data).discard()
        sealed = spooled(storage.spool, data)
        sealed.seal(ORIGIN)
        sealed.discard()
        sealed.discard()
    half = storage.spool.sink()
    half.write([memoryview(LARGE)])
    half.discard()
    half.discard()
    assert files_in(storage.folder) == []


def test_discarding_what_was_published_keeps_it(storage: LocalStore) -> None:
    payload = spooled(storage.spool, LARGE)
    payload.seal(ORIGIN)
    (name,) = storage.put([payload])
    payload.discard()
    assert storage.objects.path(name).exists()


def test_a_dataset_above_the_ceiling_is_refused(tmp_path: Path) -> None:
    with LocalStore(tmp_path, ceiling=1000) as storage:
        sink = storage.spool.sink()
        with pytest.raises(SinkFull):
            sink.write([memoryview(bytes(1001))])


def test_starting_cleans_the_spool(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as storage:
        half = storage.spool.sink()
        half.write([memoryview(LARGE)])
        payload = half.finish()
        assert len(files_in(tmp_path)) == 1
    with LocalStore(tmp_path):
        assert files_in(tmp_path) == []
    payload.discard()


def test_starting_leaves_in_the_spool_what_is_not_its_own(tmp_path: Path) -> None:
    LocalStore(tmp_path).spool.close()
    spool = tmp_path / "spool"
    (spool / "lost+found").mkdir()
    (spool / "thesis.txt").touch()
    (spool / "0.part").touch()
    with LocalStore(tmp_path):
        assert {"0.part", "lost+found", "thesis.txt"} <= set(os.listdir(spool))


def test_starting_cleans_up_what_was_taken_back_or_made_for_a_program(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as storage:
        payloads = [spooled(storage.spool, data) for data in (SMALL, LARGE)]
        payloads[0].dicom_file(b"")
        payloads[1].seal(ORIGIN)
        storage.objects.take_back(payloads[1:], storage.put(payloads[1:]))
        assert len(files_in(tmp_path)) == 2
    with LocalStore(tmp_path):
        assert files_in(tmp_path) == []


def test_behind_a_link_others_may_be_writing(tmp_path: Path) -> None:
    other, archive = tmp_path / "other", tmp_path / "archive"
    with LocalStore(other) as storage:
        half = storage.spool.sink()
        half.write([memoryview(LARGE)])
        archive.mkdir()
        (archive / "spool").symlink_to(other / "spool")
        with LocalStore(archive):
            assert len(files_in(other)) == 1
        half.discard()


def test_processes_share_a_folder_unless_one_of_them_needs_it_alone(tmp_path: Path) -> None:
    with Spool(tmp_path), Spool(tmp_path), pytest.raises(StorageInUse):
        Spool(tmp_path, exclusive=True)
    with Spool(tmp_path, exclusive=True), pytest.raises(StorageInUse):
        Spool(tmp_path)


def test_a_start_leaves_the_spool_of_a_process_that_lives(tmp_path: Path) -> None:
    with Spool(tmp_path) as living:
        file = living.make_file()
        Spool(tmp_path).close()
        assert file.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_hold_the_locks(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        theirs.send(b"!")
        theirs.recv(1)  # until the test closes its end
        os._exit(0)
    ours.recv(1)
    spool.close()
    try:
        Spool(tmp_path, exclusive=True).close()
    finally:
        ours.close()
        theirs.close()
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_locked_is_not_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="locks") as error:
        LocalStore(tmp_path)
    assert not isinstance(error.value, StorageInUse)


@pytest.mark.skipif(os.name == "nt", reason="has no such rights")
def test_folder_and_files_are_the_owners_alone(storage: LocalStore) -> None:
    payloads = [spooled(storage.spool, data) for data in (SMALL, LARGE)]
    for payload in payloads:
        payload.seal(ORIGIN)
    paths = [storage.objects.path(name) for name in storage.put(payloads)]
    assert storage.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_only_what_is_not_there_is_missing(storage: LocalStore) -> None:
    (storage.folder / "file").touch()
    assert not is_missing(storage.folder / "file")
    assert is_missing(storage.folder / "nothing")
    assert is_missing(storage.folder / "file" / "nothing")
    with pytest.raises(OSError, match="too long"):
        is_missing(storage.folder / ("x" * 10_000))


def test_what_was_published_can_be_taken_back(storage: LocalStore) -> None:
    batch = [spooled(storage.spool, data) for data in (SMALL, LARGE)]
    for payload in batch:
        payload.seal(ORIGIN)
    storage.objects.take_back(batch, storage.put(batch))
    assert list(storage.objects.names()) == []
    assert len(storage.put(batch)) == len(list(storage.objects.names())) == 2


def test_folders_that_somebody_removes_are_made_again(storage: LocalStore) -> None:
    first = spooled(storage.spool, SMALL)
    first.seal(ORIGIN)
    (name,) = storage.put([first])
    storage.objects.path(name).unlink()
    storage.objects.path(name).parent.rmdir()
    shutil.rmtree(storage.folder / "spool")
    second = spooled(storage.spool, SMALL)
    second.seal(ORIGIN)
    (name,) = storage.put([second])
    assert storage.objects.path(name).exists()


@pytest.mark.parametrize("call", ["rename", "open", "fsync", "writev"])
def test_when_one_of_a_batch_cannot_be_placed_none_is(
    storage: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    batch = [spooled(storage.spool, data) for data in (SMALL, LARGE, SMALL, LARGE)]
    for payload in batch:
        payload.seal(ORIGIN)
    real, calls = getattr(os, call), []

    def fail_later(*args, **kwargs):
        calls.append(args)
        if len(calls) > (0 if call == "fsync" else 1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fail_later)
    with pytest.raises(OSError, match="Input/output error"):
        storage.put(batch)
    monkeypatch.undo()
    for payload in batch:
        payload.discard()
    assert files_in(storage.folder) == []
