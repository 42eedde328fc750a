"""The ledger of `send_many`: a file that records stored objects, so that sending can be resumed.

`dispatcher` decides which objects are sent, and when again.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from dicomwire.bulk.pipeline import Sent, stored_with
from dicomwire.errors import DicomwireError

_VERSION = 1
_SYNC_EVERY = 1000
"""Lines from one fsync to the next: with so many, fsync takes little of the time of sending."""
_LONGEST_LINE = 1 << 20
"""Bytes of a line at most: five times the longest path of any system with all of it escaped."""
_HIGHEST_STATUS = 0xFFFF
_NEW_LEDGER = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class LedgerError(DicomwireError, ValueError):
    """A file is no ledger, or the ledger of another peer."""


class Ledger:
    """A file with one line for each sent object; lines are only appended.

    The first line names the peer. Each other line is a JSON object with the SOP Instance UID, and
    the status or the reason of the failure. A line is written in one piece before the program gets
    the result, so that it survives the end of the process. Only every thousandth line and the end
    wait for the disk (fsync): objects whose lines are lost in a system failure are sent again. An
    incomplete line is ignored, and so is one of more than 1 MiB.

    Parameters
    ----------
    path : str or Path
        Created if it does not exist.
    peer : str
        A name of the receiver, in any form: a ledger is for one peer only.

    Raises
    ------
    LedgerError
        When the file is no ledger, or the ledger of another peer.
    OSError
        When the file cannot be read or written.
    """

    _file = -1

    def __init__(self, path: str | os.PathLike[str], peer: str) -> None:
        self._path = Path(path)
        self._stored: dict[str, int] = {}
        self._unsynced = 0
        # Guards the file, so that it is not closed while another thread writes. No lock is taken
        # under it (`threaded.link` has the order).
        self._lock = threading.Lock()
        self._file = os.open(self._path, _NEW_LEDGER, 0o666)
        try:
            self._begin(peer)
        except BaseException:
            os.close(self._file)
            self._file = -1
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # If sending never began, `close` was not called.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __len__(self) -> int:
        """Return how many objects have been stored."""
        return len(self._stored)

    def status_of(self, sop_instance_uid: str) -> int | None:
        """Return the status with which an object was stored; None if it was not stored."""
        return self._stored.get(sop_instance_uid)

    @property
    def waits_next(self) -> bool:
        """Whether the next call of `note` waits for the disk."""
        return self._unsynced + 1 >= _SYNC_EVERY

    def note(self, sent: Sent) -> None:
        """Write the result of an object."""
        entry: dict[str, Any] = {"uid": sent.sop_instance_uid}
        if sent.code is not None:
            entry["status"] = sent.code
        if sent.failure is not None:
            entry["failure"] = str(sent.failure)
        if isinstance(sent.item, str | os.PathLike):
            entry["path"] = os.fspath(sent.item)
        if sent.is_stored and sent.code is not None:
            self._stored[sent.sop_instance_uid] = sent.code
        with self._lock:
            self._write(entry)
            self._unsynced += 1
            if self._unsynced >= _SYNC_EVERY:
                self._sync()

    def close(self) -> None:
        """Sync the file to the disk, and close it."""
        with self._lock:
            file, self._file = self._file, -1
            if file < 0:
                return
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._unsynced = 0

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, default=str).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def _begin(self, peer: str) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise self._foreign()  # reading a device or a pipe may never end
        with open(self._file, "rb", closefd=False) as file:
            first = file.readline(_LONGEST_LINE)
            is_new = not first.endswith(b"\n")
            if not is_new:
                self._check(first, peer)
            ends_well = True
            for line in _lines(file):
                ends_well = line.endswith(b"\n")
                self._remember(line)
        if is_new:
            is_torn = b'{"ledger":'.startswith(first[:10]) and len(first) < _LONGEST_LINE
            if first and not is_torn:
                raise self._foreign()
            os.ftruncate(self._file, 0)
            self._write({"ledger": _VERSION, "peer": peer})
        elif not ends_well:
            os.write(self._file, b"\n")

    def _check(self, line: bytes, peer: str) -> None:
        head = _parsed(line)
        owner = head.get("peer")
        if head.get("ledger") != _VERSION or not isinstance(owner, str):
            raise self._foreign()
        if owner != peer:
            raise LedgerError(f"{self._path} is the ledger of {owner!r}, not {peer!r}")

    def _foreign(self) -> LedgerError:
        return LedgerError(f"{self._path} is no ledger of sent objects")

    def _remember(self, line: bytes) -> None:
        entry = _parsed(line)
        uid: Any = entry.get("uid")
        status: Any = entry.get("status")
        is_entry = isinstance(uid, str) and type(status) is int
        if is_entry and 0 <= status <= _HIGHEST_STATUS and stored_with(status):
            self._stored[uid] = status


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Iterate over the remaining lines of a file; for one that is too long, yield only its end."""
    is_whole = True
    while line := file.readline(_LONGEST_LINE):
        ends = line.endswith(b"\n")
        yield line if is_whole and (ends or len(line) < _LONGEST_LINE) else line[-1:]
        is_whole = ends


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line; an empty one if there is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
