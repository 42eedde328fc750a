"""What is removed of a process that was killed: its own incomplete files, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomwire.data.sinks import FileSink
from dicomwire.leftovers import remove_leftovers

DIGITS = "0123456789abcdef" * 2
PART = f".{DIGITS}.part"


def make(path: Path, age: float = 7200) -> Path:
    """Make a file that was written to last so many seconds ago."""
    path.write_bytes(b"x")
    grow_old(path, age)
    return path


def grow_old(path: Path, age: float = 7200) -> None:
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


def test_what_a_sink_left_is_removed_when_nobody_writes_it_any_more(tmp_path: Path) -> None:
    abandoned, busy = FileSink(tmp_path), FileSink(tmp_path)
    abandoned.write([memoryview(b"half")])
    [path] = [each for each in tmp_path.iterdir() if each.stat().st_size]
    grow_old(path)
    remove_leftovers(tmp_path)
    [left] = tmp_path.iterdir()
    assert left != path
    for sink in (abandoned, busy):
        sink.discard()


@pytest.mark.parametrize(
    "name", [f"{DIGITS}.part", f".{DIGITS}x.part", ".part", f".{DIGITS.upper()}.part", f"{PART}\n"]
)
def test_a_file_of_another_name_stays(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name)
    remove_leftovers(tmp_path)
    assert path.exists()


def test_links_and_folders_stay(tmp_path: Path) -> None:
    inside, target = tmp_path / "inside", tmp_path / "elsewhere"
    (inside / PART).mkdir(parents=True)
    make(inside / PART / PART)
    grow_old(inside / PART)
    make(target)
    link = inside / PART.replace("0", "1")
    link.symlink_to(target)
    remove_leftovers(inside, age=0)
    assert sorted(inside.rglob("*")) == sorted([inside / PART, inside / PART / PART, link])
    assert target.exists()


def test_a_folder_that_cannot_be_read_is_no_failure(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "gone")
    remove_leftovers(make(tmp_path / "file"))
