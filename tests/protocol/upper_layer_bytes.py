"""Bytes of the Upper Layer put together by hand, so that no test trusts the encoders under test."""

from __future__ import annotations

import struct


def pdu(pdu_type: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU; `length` is what its header claims, if not the truth."""
    return struct.pack(">BxI", pdu_type, len(body) if length is None else length) + body


def item(item_type: int, body: bytes) -> bytes:
    return struct.pack(">BxH", item_type, len(body)) + body


def pdv(context_id: int, control: int, data: bytes, length: int | None = None) -> bytes:
    """A presentation data value; `length` is what its header claims, if not the truth."""
    claimed = len(data) + 2 if length is None else length
    return struct.pack(">IBB", claimed, context_id, control) + data


def data_pdu(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


def element(number: int, value: bytes) -> bytes:
    """An element of a command set: group 0000, implicit VR little endian."""
    return struct.pack("<HHI", 0, number, len(value)) + value


def command_set(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return element(0x0000, struct.pack("<I", len(body))) + body


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def abort(source: int, reason: int) -> bytes:
    return pdu(7, bytes((0, 0, source, reason)))


COMMAND, LAST = 1, 2  # bits of the message control header

VERIFICATION = b"1.2.840.10008.1.1"
CT_STORAGE = b"1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LITTLE = b"1.2.840.10008.1.2"

_ASSOCIATE_HEAD = (
    struct.pack(">HH", 1, 0)
    + b"ARCHIVE".ljust(16)
    + b"MODALITY".ljust(16)
    + bytes(32)
    + item(0x10, b"1.2.840.10008.3.1.1.1")
)
_USER_INFORMATION = item(0x50, item(0x51, struct.pack(">I", 16382)) + item(0x52, b"1.2.3.4"))

ASSOCIATE_RQ = pdu(
    1,
    _ASSOCIATE_HEAD
    + item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION) + item(0x40, IMPLICIT_LITTLE))
    + item(0x20, bytes((3, 0, 0, 0)) + item(0x30, CT_STORAGE) + item(0x40, IMPLICIT_LITTLE))
    + _USER_INFORMATION,
)
ASSOCIATE_AC = pdu(
    2,
    _ASSOCIATE_HEAD
    + item(0x21, bytes((1, 0, 0, 0)) + item(0x40, IMPLICIT_LITTLE))
    + item(0x21, bytes((3, 0, 0, 0)) + item(0x40, IMPLICIT_LITTLE))
    + _USER_INFORMATION,
)
ASSOCIATE_RJ = pdu(3, bytes((0, 1, 1, 7)))
RELEASE_RQ = pdu(5, bytes(4))
RELEASE_RP = pdu(6, bytes(4))
USER_ABORT = abort(0, 0)
UNKNOWN_PDU = pdu(0x2A, b"what?")

ECHO_COMMAND = command_set(
    element(0x0002, VERIFICATION + b"\0"), us(0x0100, 0x0030), us(0x0110, 7), us(0x0800, 0x0101)
)
ECHO_RQ = data_pdu(pdv(1, COMMAND | LAST, ECHO_COMMAND))

STORE_COMMAND = command_set(
    element(0x0002, CT_STORAGE + b"\0"),
    us(0x0100, 0x0001),
    us(0x0110, 8),
    us(0x0700, 0),
    us(0x0800, 0x0001),
    element(0x1000, b"1.2.3.4.5\0"),
)
