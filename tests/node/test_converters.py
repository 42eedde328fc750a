"""Pixels are converted in processes of their own: what ends those is one failure, and no more."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicomwire.data.file_meta import parse_file_meta
from dicomwire.node import processes as module
from dicomwire.node.converters import PROCESSES, Converters
from dicomwire.node.transcode import CannotTranscode

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
COMPRESSED = WHEEL / "MR_small_RLE.dcm"

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")  # as those files have

Make = Callable[..., Converters]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """All processes that were started."""
    processes: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def start(*args: object, **options: object) -> subprocess.Popen:
        processes.append(popen(*args, **options))
        return processes[-1]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    return processes


@pytest.fixture
def make(tmp_path: Path, started: list[subprocess.Popen]) -> Iterator[Make]:
    """Returns converters that put their files into `spool`; in the end no process is left."""
    made: list[Converters] = []
    spool = tmp_path / "spool"
    spool.mkdir()

    def make_file() -> Path:
        path = spool / f"{len(list(spool.iterdir()))}.part"
        path.touch(exist_ok=False)
        return path

    def build(**options: object) -> Converters:
        made.append(Converters(make_file, **options))
        return made[-1]

    yield build
    for each in made:
        each.close()
    assert list(spool.iterdir()) == []
    assert all(process.returncode is not None for process in started)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file whose reader waits until somebody writes to it."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return path


def _asked(converters: Converters, path: Path, failures: list[str]) -> threading.Thread:
    def ask() -> None:
        with pytest.raises(CannotTranscode) as caught:
            converters.pixel_digest(path)
        failures.append(str(caught.value))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_no_process_is_started_before_it_is_needed(
    make: Make, started: list[subprocess.Popen]
) -> None:
    make()
    assert started == []


def test_one_process_converts_one_object_after_the_other(
    make: Make, started: list[subprocess.Popen]
) -> None:
    converters = make()
    for target in (ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless):
        with converters.converted(COMPRESSED, target) as path:
            ds = dcmread(path)
            assert ds.file_meta.TransferSyntaxUID == target
            assert parse_file_meta(path.read_bytes()).sop_instance_uid == ds.SOPInstanceUID
            assert (ds.pixel_array == dcmread(COMPRESSED).pixel_array).all()
        assert not path.exists()
    assert len(started) == 1


def test_what_cannot_be_converted_says_why_and_leaves_the_process(
    make: Make, started: list[subprocess.Popen], tmp_path: Path
) -> None:
    converters = make()
    for _ in range(2):
        gone = converters.converted(tmp_path / "gone.dcm", ExplicitVRLittleEndian)
        with pytest.raises(CannotTranscode, match="its file is missing"), gone:
            pass
    assert len(started) == 1


def test_an_image_that_takes_more_memory_than_there_is_fails_alone(
    make: Make, tmp_path: Path
) -> None:
    ds = dcmread(COMPRESSED)
    ds.Rows = ds.Columns = 2**14
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    pixels = b"\x81\0" * 2**21  # each two bytes are 128 pixels
    ds.PixelData = encapsulate([struct.pack("<16L", 1, 64, *[0] * 14) + pixels])
    ds.save_as(tmp_path / "large.dcm")
    del ds, pixels
    converters = make(memory=400 * 2**20)
    large = converters.converted(tmp_path / "large.dcm", ExplicitVRLittleEndian)
    with pytest.raises(CannotTranscode), large:
        pass
    with converters.converted(COMPRESSED, ExplicitVRLittleEndian) as path:
        assert path.stat().st_size


def test_a_process_that_dies_is_a_failure_with_its_reason(
    make: Make, endless: Path, started: list[subprocess.Popen]
) -> None:
    failures: list[str] = []
    thread = _asked(make(), endless, failures)
    with endless.open("wb"):  # which waits for the reader
        started[0].send_signal(signal.SIGSEGV)
        thread.join()
    assert failures == ["its conversion ended with SIGSEGV"]


def test_a_process_that_was_killed_while_it_was_idle_is_replaced(
    real_processes: None, make: Make, started: list[subprocess.Popen]
) -> None:
    converters = make()
    digest = converters.pixel_digest(COMPRESSED)
    os.kill(started[0].pid, signal.SIGKILL)
    os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)
    assert converters.pixel_digest(COMPRESSED) == digest
    assert len(started) == 2


def test_what_takes_too_long_is_ended(make: Make, endless: Path) -> None:
    with pytest.raises(CannotTranscode, match=r"takes more than 0\.5 seconds"):
        make(timeout=0.5).pixel_digest(endless)


def test_closing_ends_what_is_under_way(make: Make, endless: Path) -> None:
    converters = make()
    failures: list[str] = []
    thread = _asked(converters, endless, failures)
    with endless.open("wb"):  # which waits for the reader
        converters.close()
        thread.join()
    assert failures == ["its conversion ended with SIGKILL"]
    with pytest.raises(CannotTranscode, match="being stopped"):
        converters.pixel_digest(COMPRESSED)


def test_no_more_processes_run_than_there_may(
    make: Make, endless: Path, started: list[subprocess.Popen]
) -> None:
    converters = make(timeout=1.0)
    failures: list[str] = []
    threads = [_asked(converters, endless, failures) for _ in range(PROCESSES + 1)]
    for thread in threads:
        thread.join()
    assert len(failures) == PROCESSES + 1
    assert len(started) <= PROCESSES + 1  # the last may just have got its turn


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MR_small.dcm", "MR_small_RLE.dcm"),
        ("MR_small_bigendian.dcm", "MR_small_jp2klossless.dcm"),
        ("MR_small_implicit.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ],
)
def test_equal_pixels_have_one_digest_in_every_encoding(make: Make, one: str, other: str) -> None:
    converters = make()
    assert converters.pixel_digest(WHEEL / one) == converters.pixel_digest(WHEEL / other)


def test_other_pixels_have_another_digest(make: Make) -> None:
    converters = make()
    digests = [converters.pixel_digest(WHEEL / name) for name in ("MR_small.dcm", "CT_small.dcm")]
    assert digests[0] != digests[1]
