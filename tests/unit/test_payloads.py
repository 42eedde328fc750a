"""Sources, sinks and payloads: hostile names, full disks, short writes, and nothing left over."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomwire.data import codec, file_meta, sinks
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import DiscardSink, FileSink, MemorySink, Sink, SinkFull, SpoolSink
from dicomwire.data.sources import BytesSource, FileSource, Source
from dicomwire.errors import DicomwireError

HEAD = file_meta.file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")
DATA = bytes(range(256)) * 40


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before  # an earlier test may have left some, which are closed by now


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def views(*sizes: int) -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in sizes]


def pieces(data: bytes, size: int) -> list[memoryview]:
    return [memoryview(data)[at : at + size] for at in range(0, len(data), size)]


def write(sink: Sink, data: bytes = DATA, size: int = 1000, at_once: int = 3) -> None:
    """Write `data` as fragments of a buffer that is used again, as a connection does."""
    chunks = pieces(data, size)
    for first in range(0, len(chunks), at_once):
        buffers = [bytearray(chunk) for chunk in chunks[first : first + at_once]]
        sink.write([memoryview(buffer) for buffer in buffers])
        for buffer in buffers:
            buffer[:] = bytes(len(buffer))


def check(payload: Payload, data: bytes = DATA) -> None:
    assert payload.size == len(data)
    assert payload.getvalue() == data
    assert bytes(payload.view()) == data
    with payload.open() as file:
        assert file.read() == data


# --- Sources ----------------------------------------------------------------------------------


@pytest.fixture(params=["bytes", "file", "file at an offset", "file without preadv"])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Source]:
    made: Source
    if request.param == "bytes":
        made = BytesSource(DATA)
    else:
        offset = 300 if "offset" in request.param else 0
        path = tmp_path / "source"
        path.write_bytes(bytes(offset) + DATA)
        if "without" in request.param:
            monkeypatch.delattr(os, "preadv")
        made = FileSource(path, offset)
    yield made
    made.close()


def read_all(source: Source, sizes: Sequence[int]) -> bytes:
    data = b""
    while True:
        buffers = views(*sizes)
        count = source.readinto(buffers)
        data += b"".join(buffers)[:count]
        if count < sum(sizes):
            return data


@pytest.mark.parametrize("sizes", [[100], [1, 2, 3], [7, 0, 4096], [0, 20_000], [1] * 5000])
def test_source(source: Source, sizes: list[int]) -> None:
    assert source.length == len(DATA)
    assert read_all(source, sizes) == DATA
    assert source.readinto(views(10)) == 0


def test_source_that_ends_with_a_buffer(source: Source) -> None:
    assert source.readinto(views(len(DATA))) == len(DATA)
    assert source.readinto(views(1)) == 0
    assert source.readinto([]) == 0


def test_file_source_reads_what_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    real = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, buffers, at: real(fd, [memoryview(buffers[0])[:7]], at)
    )
    source = FileSource(path)
    assert read_all(source, [100, 50, 0, 3]) == DATA
    source.close()


def test_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    source = FileSource(path)
    assert source.readinto(views(100)) == 100
    os.truncate(path, 150)
    with pytest.raises(EOFError, match="became shorter"):
        source.readinto(views(100))
    source.close()


def test_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    source = FileSource(path)
    with path.open("ab") as file:
        file.write(b"more")
    assert read_all(source, [1000]) == DATA
    source.close()


def test_file_source_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSource(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        FileSource(tmp_path)
    path = tmp_path / "source"
    path.write_bytes(DATA)
    with pytest.raises(EOFError):
        FileSource(path, len(DATA) + 1)


def test_source_of_a_file_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(HEAD + DATA)
    file = io.FileIO(path)
    source = FileSource(path, len(HEAD), file)
    assert source.length == len(DATA)
    assert read_all(source, [999]) == DATA
    source.close()
    assert file.closed


# --- Sinks that keep a dataset ----------------------------------------------------------------


def test_memory() -> None:
    sink = MemorySink(len(DATA))
    write(sink)
    payload = sink.finish()
    sink.discard()
    check(payload)
    assert payload.path is None
    payload.discard()
    check(payload)


def test_memory_of_nothing() -> None:
    check(MemorySink(None).finish(), b"")


def test_discard() -> None:
    sink = DiscardSink()
    write(sink)
    check(sink.finish(), b"")
    sink.discard()


def test_spool_below_its_threshold(spool: Path) -> None:
    sink = SpoolSink(len(DATA), directory=spool)
    write(sink)
    payload = sink.finish()
    check(payload)
    assert payload.path is None
    assert not os.listdir(spool)


@pytest.mark.parametrize("head", [b"", HEAD])
@pytest.mark.parametrize("threshold", [0, 2500, len(DATA) - 1])
def test_spool_above_its_threshold(spool: Path, threshold: int, head: bytes) -> None:
    sink = SpoolSink(threshold, directory=spool, head=head)
    write(sink)
    payload = sink.finish()
    sink.discard()
    assert payload.offset == len(head)
    assert payload.path is not None
    assert payload.path.read_bytes() == head + DATA
    assert payload.path.stat().st_mode & 0o777 == 0o600
    check(payload)
    view = payload.view()
    payload.discard()
    assert not os.listdir(spool)
    assert view == DATA, "a view lives as long as it is used"
    payload.discard()


def test_spool_in_the_directory_of_the_system(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    sink = SpoolSink(0)
    write(sink)
    payload = sink.finish()
    assert payload.path is not None
    assert payload.path.parent == spool
    payload.discard()


def test_spool_that_is_discarded(spool: Path) -> None:
    for threshold in (0, len(DATA)):
        sink = SpoolSink(threshold, directory=spool)
        write(sink)
        sink.discard()
        sink.discard()
        assert not os.listdir(spool)


def test_spool_takes_constant_memory(spool: Path) -> None:
    megabyte = memoryview(bytearray(1024 * 1024))
    tracemalloc.start()
    try:
        sink = SpoolSink(4 * 1024 * 1024, directory=spool)
        for _ in range(100):
            sink.write([megabyte])
        payload = sink.finish()
        assert sum(payload.view()[:: 1 << 20]) == 0
        assert tracemalloc.get_traced_memory()[1] < 6 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert payload.size == 100 * 1024 * 1024
    payload.discard()


def test_file(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "name.dcm", HEAD)
    write(sink)
    (hidden,) = os.listdir(tmp_path)
    assert hidden.startswith(".")
    assert hidden.endswith(".part")
    payload = sink.finish()
    sink.discard()
    assert os.listdir(tmp_path) == ["name.dcm"]
    assert payload.path == tmp_path / "name.dcm"
    assert payload.path.read_bytes() == HEAD + DATA
    assert payload.offset == len(HEAD)
    check(payload)
    payload.discard()
    assert payload.path.exists(), "it was asked for"


def test_file_without_a_dataset(tmp_path: Path) -> None:
    payload = FileSink(str(tmp_path), "name.dcm", HEAD).finish()
    assert (tmp_path / "name.dcm").read_bytes() == HEAD
    check(payload, b"")


def test_files_get_names_of_their_own(tmp_path: Path) -> None:
    sinks = [FileSink(tmp_path, head=HEAD) for _ in range(64)]
    for number, sink in enumerate(sinks):
        sink.write([memoryview(bytes([number]))])
    found = {sink.finish().path for sink in reversed(sinks)}
    assert len(found) == 64
    assert {path.read_bytes()[-1] for path in tmp_path.iterdir()} == set(range(64))
    assert all(path.suffix == ".dcm" and len(path.stem) == 32 for path in tmp_path.iterdir())


def test_file_replaces_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"old")
    write(sink := FileSink(tmp_path, "name"))
    assert (tmp_path / "name").read_bytes() == b"old"
    sink.finish()
    assert (tmp_path / "name").read_bytes() == DATA


def test_file_replaces_a_link_not_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "name").symlink_to(target)
    write(sink := FileSink(tmp_path, "name"))
    sink.finish()
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "name").is_symlink()


@pytest.mark.parametrize("links", [True, False])
def test_exclusive_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def link(source: str, target: str) -> None:
            if os.path.exists(target):
                raise FileExistsError(target)
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", link)
    first, second = (FileSink(tmp_path, "name", exclusive=True) for _ in range(2))
    write(first)
    second.write([memoryview(b"second")])
    check(first.finish())
    with pytest.raises(FileExistsError):
        second.finish()
    second.discard()
    assert os.listdir(tmp_path) == ["name"]
    assert (tmp_path / "name").read_bytes() == DATA


def test_file_that_is_discarded(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "name", HEAD)
    write(sink)
    sink.discard()
    sink.discard()
    assert not os.listdir(tmp_path)


def test_file_whose_name_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    sink = FileSink(tmp_path, "name")
    write(sink)
    with pytest.raises(IsADirectoryError):
        sink.finish()
    sink.discard()
    assert os.listdir(tmp_path) == ["name"]


def test_file_in_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSink(tmp_path / "nothing")


# --- Names ------------------------------------------------------------------------------------

HOSTILE = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../x",
    "a/b",
    "a/",
    "/",
    "..\\x",
    "C:\\x",
    "\\\\host\\share",
    "a\0b",
    "a\0/../b",
    "1.2.3/../../4",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ValueError, match="not a plain file name"):
        FileSink(root, name)
    assert os.listdir(tmp_path) == ["root"]
    assert not os.listdir(root)


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(HOSTILE))
def test_names_stay_where_they_belong(name: str) -> None:
    try:
        plain = sinks.plain_name(name)
    except ValueError:
        return
    assert os.path.normpath(os.path.join("/root", plain)) == f"/root/{name}"


# --- What goes wrong --------------------------------------------------------------------------


def sinks_of(folder: Path, ceiling: int | None = None) -> list[Sink]:
    return [
        SpoolSink(1000, ceiling, folder),
        FileSink(folder, "name", HEAD, ceiling),
        FileSink(folder, None, HEAD, ceiling),
    ]


@pytest.mark.parametrize("ceiling", [0, 999, 1000, len(DATA) - 1])
def test_ceiling(spool: Path, ceiling: int) -> None:
    for sink in [*sinks_of(spool, ceiling), MemorySink(ceiling)]:
        with pytest.raises(SinkFull, match=f"more than {ceiling} bytes") as caught:
            write(sink)
        assert caught.value.status == 0xA700
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value, DicomwireError)
        assert caught.value.errno == errno.EFBIG
        sink.discard()
    assert not os.listdir(spool)


def test_ceiling_that_is_reached_but_not_passed(spool: Path) -> None:
    for sink in [*sinks_of(spool, len(DATA)), MemorySink(len(DATA))]:
        write(sink)
        check(payload := sink.finish())
        payload.discard()


def test_disk_full(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.writev, 3000

    def writev(descriptor: int, buffers: Sequence[bytes]) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, [b"".join(buffers)[:room]])
        room -= count
        return count

    monkeypatch.setattr(os, "writev", writev)
    for sink in sinks_of(spool):
        room = 3000
        with pytest.raises(OSError, match="No space left") as caught:
            write(sink)
        assert not isinstance(caught.value, SinkFull)
        sink.discard()
    assert not os.listdir(spool)


def test_nothing_written_does_not_go_on_for_ever(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "writev", lambda descriptor, buffers: 0)
    for sink in sinks_of(spool):
        with pytest.raises(OSError, match="nothing could be written"):
            write(sink)
        sink.discard()


@pytest.mark.parametrize("at_most", [1, 999, 1001])
def test_partial_writes(spool: Path, monkeypatch: pytest.MonkeyPatch, at_most: int) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: real(fd, [b"".join(buffers)[:at_most]]))
    data = DATA[:5000]
    for sink in sinks_of(spool):
        write(sink, data, 500)
        payload = sink.finish()
        check(payload, data)
        payload.discard()


def test_system_without_writev(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "writev")
    for sink in sinks_of(spool):
        write(sink)
        check(payload := sink.finish())
        payload.discard()


def test_more_chunks_than_the_system_takes(spool: Path) -> None:
    for sink in sinks_of(spool):
        write(sink, size=1, at_once=5000)
        check(payload := sink.finish())
        payload.discard()


def test_empty_chunks(spool: Path) -> None:
    for sink in sinks_of(spool):
        sink.write([])
        sink.write([memoryview(b"")])
        sink.write([memoryview(b""), *pieces(DATA, 5000), memoryview(b""), memoryview(b"")])
        check(payload := sink.finish())
        payload.discard()


# --- A DICOM file of what was received --------------------------------------------------------


def test_dicom_file_of_a_payload(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    for sink in (
        SpoolSink(len(DATA), directory=spool),
        SpoolSink(100, directory=spool),
        MemorySink(None),
    ):
        write(sink)
        payload = sink.finish()
        path = payload.dicom_file(HEAD)
        assert path.parent == spool
        assert path.read_bytes() == HEAD + DATA
        assert payload.dicom_file(HEAD) == path
        check(payload)
        payload.discard()
        assert not os.listdir(spool)


def test_dicom_file_that_is_there_already(spool: Path) -> None:
    for sink in (SpoolSink(100, directory=spool, head=HEAD), FileSink(spool, None, HEAD)):
        write(sink)
        payload = sink.finish()
        assert payload.dicom_file(HEAD) == payload.path
        payload.discard()


def test_dicom_file_on_a_full_disk(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SpoolSink(len(DATA), directory=spool)
    write(sink)
    payload = sink.finish()

    def writev(descriptor: int, buffers: Sequence[bytes]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", writev)
    with pytest.raises(OSError, match="No space left"):
        payload.dicom_file(HEAD)
    assert not os.listdir(spool)


def test_payload_whose_file_is_gone(spool: Path) -> None:
    sink = SpoolSink(0, directory=spool)
    write(sink)
    payload = sink.finish()
    payload.discard()
    with pytest.raises(FileNotFoundError):
        payload.view()
    with pytest.raises(FileNotFoundError):
        payload.open()


def test_spooled_dataset_decodes(spool: Path) -> None:
    data = b"\x10\0\x20\0LO\4\0abcd"
    sink = SpoolSink(0, directory=spool, head=HEAD)
    write(sink, data)
    payload = sink.finish()
    ds = codec.decode(payload, False, True)
    payload.discard()
    assert ds.PatientID == "abcd"
