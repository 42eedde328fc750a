"""The head of the node's files: file meta information, and a seal to verify the file by.

`objects` decides where files are, and when they are written.
"""

from __future__ import annotations

import hashlib
import struct
from io import BufferedIOBase
from typing import Any, NamedTuple, Protocol

from dicomwire.data.file_meta import FileFormatError, file_head, parse_file_meta
from dicomwire.implementation import UID_PREFIX

HEAD_SIZE = 640
"""The offset of the dataset in each file of the node: the head is padded to this size.

The longest UIDs, a title of 16 characters and the seal take less. Because the size is fixed, the
dataset can be written before all values of the head are known.
"""

# The seal is private information in the file meta information (PS3.10 Section 7.1). By it a file
# can be verified without the index: SHA-256 of the dataset, its length, and the time of receipt in
# microseconds since 1970.
_CREATOR = f"{UID_PREFIX}1".encode()
_SEAL = struct.Struct("<32sQQ")
_META_LENGTH = struct.Struct("<I")
_META_LENGTH_AT = 140
_META_BEGIN = 144
_WHOLE_META = _META_LENGTH.pack(HEAD_SIZE - _META_BEGIN)
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sxxI")
_EVEN_CREATOR = _CREATOR + b"\0" * (len(_CREATOR) % 2)
_CREATOR_ELEMENT = _SHORT.pack(2, 0x0100, b"UI", len(_EVEN_CREATOR)) + _EVEN_CREATOR


class MayStore(Protocol):
    """Decides which objects a sender may add; `visible.StudyFilter` does."""

    def may_store(self, connection: Any, entry: Any, /) -> bool:
        """Return whether an object may be stored, by its index entry and what the index has."""


class Origin(NamedTuple):
    """UIDs and sender of an object, from the C-STORE request or from the head of its file."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae: str = ""
    address: str = ""
    """The address of the peer. It is not in the file."""
    studies: MayStore | None = None
    """The studies to which the sender may add objects; None for all."""

    def file_head(self) -> bytes:
        """Return the head of a file of the object, without a seal."""
        return file_head(*self[:4])


class Seal(NamedTuple):
    """Digest, length and time of receipt of a dataset, kept in the head of its file."""

    digest: bytes
    size: int
    received: int
    """Microseconds since 1970."""


def sealed_head(origin: Origin, seal: Seal) -> bytes:
    """Return the head of a file: always `HEAD_SIZE` bytes, whatever the lengths of the UIDs."""
    head = file_head(*origin[:4])
    length = HEAD_SIZE - len(head) - len(_CREATOR_ELEMENT) - _LONG.size
    return b"".join(
        (
            head[:_META_LENGTH_AT],
            _WHOLE_META,
            head[_META_BEGIN:],
            _CREATOR_ELEMENT,
            _LONG.pack(2, 0x0102, b"OB", length),
            _SEAL.pack(*seal).ljust(length, b"\0"),
        )
    )


def read_head(begin: bytes, size: int) -> tuple[Origin, int, Seal | None]:
    """Return the origin of a file's object, the offset of its dataset, and its seal or None.

    Parameters
    ----------
    begin : bytes
        The first 64 KiB of the file, or all of it.
    size : int
        The size of the file in bytes.

    Raises
    ------
    FileFormatError
        When it is no DICOM file, or its size is not that of the sealed file.
    """
    head = parse_file_meta(begin)
    sop_class, instance, syntax = map(str, head[:3])
    origin = Origin(sop_class, instance, syntax)
    creator = begin.find(_CREATOR_ELEMENT, 0, head.offset)
    at = creator + len(_CREATOR_ELEMENT) + _LONG.size
    if creator < 0 or at + _SEAL.size > head.offset:
        return origin, head.offset, None
    seal = Seal(*_SEAL.unpack_from(begin, at))
    if size != head.offset + seal.size:
        raise FileFormatError("the file does not have the length that its head states")
    return origin, head.offset, seal


def digest_of(file: BufferedIOBase, offset: int, transfer_syntax_uid: str) -> bytes:
    """Return the digest of the dataset in a file from `offset` on; see `Spooled.digest`.

    The file is read and not mapped, so that a bad sector leads to an OSError and not to SIGBUS.
    """
    file.seek(offset)
    whole = hashlib.file_digest(file, "sha256")
    whole.update(transfer_syntax_uid.encode())
    return whole.digest()
