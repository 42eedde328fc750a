"""The cache of a bucket's objects: what it keeps, what it removes, and what it never serves."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from spooling import CT, EXPLICIT, encoded

from dicomwire.node.files import Damaged
from dicomwire.node.heads import Origin, Seal, sealed_head
from dicomwire.node.objects.cache import Cache
from dicomwire.node.objects.reader import RangeReader

ORIGIN = Origin(CT, "1.2.3", EXPLICIT)
SIZE = 64 * 2**20


class Remote:
    """Objects that are far away, by their name."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.opened: list[str] = []

    def add(self, pixels: int = 0) -> str:
        """Add an object; return its name."""
        data = encoded("1.2.3", pixels=pixels)
        digits = os.urandom(16).hex()
        name = f"{digits[:2]}/{digits[2:]}.dcm"
        seal = Seal(hashlib.sha256(data + EXPLICIT.encode()).digest(), len(data), 1)
        self.objects[name] = sealed_head(ORIGIN, seal) + data
        return name

    def open(self, name: str, first: int = 0) -> RangeReader:
        """Open an object."""
        if name not in self.objects:
            raise FileNotFoundError(name)
        self.opened.append(name)
        data = self.objects[name]
        return RangeReader(lambda start, stop: (memoryview(data)[start:stop], len(data)))


@pytest.fixture
def remote() -> Remote:
    return Remote()


def read(cache: Cache, name: str) -> bytes:
    with cache.open(name) as file:
        return file.read()


def copies(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_object_is_fetched_once(remote: Remote, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", SIZE, remote.open)
    name = remote.add(1000)
    assert read(cache, name) == read(cache, name) == remote.objects[name]
    assert read(Cache(tmp_path / "cache", SIZE, remote.open), name) == remote.objects[name]
    assert remote.opened == [name]


def test_only_its_owner_can_read_it(remote: Remote, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", SIZE, remote.open)
    read(cache, remote.add())
    assert all(not path.stat().st_mode & 0o077 for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + b"x", lambda data: b"no"],
    ids=["short", "empty", "changed", "other"],
)
def test_a_damaged_copy_is_not_served(
    remote: Remote, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    cache = Cache(tmp_path, SIZE, remote.open)
    name = remote.add(1000)
    read(cache, name)
    (copy,) = copies(tmp_path)
    copy.write_bytes(damage(copy.read_bytes()))
    assert read(cache, name) == remote.objects[name]
    assert remote.opened == [name, name]


def test_an_object_that_is_damaged_in_the_bucket_is_not_served(
    remote: Remote, tmp_path: Path
) -> None:
    cache = Cache(tmp_path, SIZE, remote.open)
    name = remote.add(1000)
    remote.objects[name] = remote.objects[name][:-1] + b"x"
    with pytest.raises(Damaged):
        cache.open(name)
    assert copies(tmp_path) == []


def test_the_copy_that_was_not_used_for_longest_is_removed_first(
    remote: Remote, tmp_path: Path
) -> None:
    size = 40 * 2**20
    cache = Cache(tmp_path, size, remote.open)
    names = [remote.add(2**20) for _ in range(45)]
    for at, name in enumerate(names):
        read(cache, name)
        os.utime(tmp_path / name, (at, at))
        if at > 0:
            read(cache, names[0])  # used again and again
    assert sum(path.stat().st_size for path in copies(tmp_path)) <= size
    assert (tmp_path / names[0]).exists()
    assert not (tmp_path / names[1]).exists()
    assert (tmp_path / names[-1]).exists()


def test_a_large_object_is_not_kept(remote: Remote, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2**20, remote.open)
    name = remote.add(2**19)
    assert read(cache, name) == remote.objects[name]
    assert copies(tmp_path) == []


def test_without_its_folder_the_cache_is_passed_by(remote: Remote, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", SIZE, remote.open)
    (tmp_path / "cache").rmdir()
    name = remote.add(1000)
    assert read(cache, name) == read(cache, name) == remote.objects[name]


def test_a_missing_object_is_missing(remote: Remote, tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE, remote.open)
    for name in ("ab/" + "0" * 30 + ".dcm", "../../etc/passwd", "objects/ab/cd/ef.dcm"):
        with pytest.raises(FileNotFoundError):
            cache.open(name)


def test_several_caches_in_one_folder(remote: Remote, tmp_path: Path) -> None:
    names = [remote.add(2**18) for _ in range(40)]
    found: list[bool] = []

    def use() -> None:
        cache = Cache(tmp_path, 8 * 2**20, remote.open)
        found.extend(read(cache, name) == remote.objects[name] for name in names)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160
    assert sum(path.stat().st_size for path in copies(tmp_path)) <= 8 * 2**20
