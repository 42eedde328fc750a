"""The ledger of a large send: a file that says what has been stored, so that it can be resumed.

What is sent, and when again, is decided in `services.dispatching`.
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
_LONGEST_LINE = 1 << 20
"""In bytes: the longest path of any system, with each character escaped, is a fifth of that."""
_HIGHEST_STATUS = 0xFFFF
_NEW_LEDGER = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class LedgerError(DicomwireError, ValueError):
    """A file cannot be the ledger of what is to be sent."""


class Ledger:
    """A file of one line per object that was sent, only ever appended to.

    The first line says whom it is for; each of the others is a JSON object with the SOP Instance
    UID and the status, or the reason why there was none. A line is written, in one piece, before
    its result is given to the program, so that it survives the end of the process. It is not
    waited for until it is on the disk (fsync), but for every thousandth line and at the end: what
    a failure of the system takes with it is sent again. A torn line is passed over, and so is
    one of more than 1 MiB.

    Parameters
    ----------
    path : str or Path
        Made if there is none.
    peer : str
        Whom the objects go to, in any words: a ledger is for one peer only.

    Raises
    ------
    LedgerError
        When the file is something else, or the ledger of another peer.
    OSError
        When it cannot be read and written.
    """

    _file = -1

    def __init__(self, path: str | os.PathLike[str], peer: str) -> None:
        self._path = Path(path)
        self._stored: dict[str, int] = {}
        self._unsynced = 0
        self._lock = threading.Lock()  # so that no file is closed while another thread writes it
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
        # Where nothing was sent after all, nobody closes it.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __len__(self) -> int:
        """Return how many objects have been stored."""
        return len(self._stored)

    def status_of(self, sop_instance_uid: str) -> int | None:
        """Return the status that an object was stored with; None if it was not."""
        return self._stored.get(sop_instance_uid)

    @property
    def waits_next(self) -> bool:
        """Whether the next call of `note` waits for the disk."""
        return self._unsynced + 1 >= _SYNC_EVERY

    def note(self, sent: Sent) -> None:
        """Write what became of an object."""
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
        """Have all be on the disk, and close the file."""
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
            raise self._foreign()  # a device or a pipe may have no end
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
        return LedgerError(f"{self._path} is no ledger of what was sent")

    def _remember(self, line: bytes) -> None:
        entry = _parsed(line)
        uid: Any = entry.get("uid")
        status: Any = entry.get("status")
        is_entry = isinstance(uid, str) and type(status) is int
        if is_entry and 0 <= status <= _HIGHEST_STATUS and stored_with(status):
            self._stored[uid] = status


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Iterate over the rest of a file; of a line that is too long only its end is given."""
    is_whole = True
    while line := file.readline(_LONGEST_LINE):
        ends = line.endswith(b"\n")
        yield line if is_whole and (ends or len(line) < _LONGEST_LINE) else line[-1:]
        is_whole = ends


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the object that a line holds; an empty one if it holds none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
