"""Cuts the byte stream into PDUs, and P-DATA-TF PDUs into fragments without waiting for the whole.

Nothing is allocated from a length that the peer claims; what bytes mean is decided elsewhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicomwire.errors import AbortReason, RemoteProtocolError
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDUType

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")
_HEADER_SIZE = 6
"""Of either; so a P-DATA-TF PDU is as long as this at least, and so is what is left of one."""
_TLS_RECORDS = (0x15, 0x16)  # an alert, and a handshake (RFC 8446 Section 5.1)
_PDV_OVERHEAD = 2
"""Context id and message control header, which the length of a PDV counts."""

_NOTHING = memoryview(b"")
_P_DATA = PDUType.P_DATA_TF
_TYPES = {int(t): t for t in PDUType}
_ASSOCIATE = (PDUType.ASSOCIATE_RQ, PDUType.ASSOCIATE_AC)


@dataclass(slots=True)
class Frame:
    """A whole PDU but P-DATA-TF, or (with an empty body) the beginning of one of those."""

    pdu_type: PDUType
    body: memoryview


@dataclass(slots=True)
class Fragment:
    """Part of one presentation data value (PS3.8 Section 9.3.5.1).

    `control` is its message control header; `complete` is true with the last bytes of the value.
    """

    context_id: int
    control: int
    data: memoryview
    complete: bool


class Framer:
    """Incremental parser: `feed` bytes, then call `next` until it returns None.

    Attributes
    ----------
    announce_data : bool
        Whether `next` returns a `Frame` for the header of each P-DATA-TF PDU, before its fragments.
        The association sets it whenever data are not simply welcome.
    view : memoryview
        The received bytes.
    at : int
        Where in `view` the next byte is that has not been consumed.
    pdu_type : PDUType or None
        The type of the PDU whose bytes come next; None between two PDUs.
    head : bytearray
        The bytes of a header, as long as only a part of it has come.
    """

    __slots__ = (
        "_body",
        "_context_id",
        "_control",
        "_in_pdv",
        "_limits",
        "_pdu_left",
        "_pdv_left",
        "announce_data",
        "at",
        "head",
        "pdu_type",
        "view",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.view = _NOTHING
        self.at = 0
        self.head = bytearray()  # a header of which only a part has come
        self.pdu_type: PDUType | None = None  # of the PDU that we are inside of
        self._pdu_left = 0  # bytes of it after the current PDV
        self._body = bytearray()  # of a PDU that is not P-DATA-TF and only partly here
        self._in_pdv = False
        self._pdv_left = 0
        self._context_id = 0
        self._control = 0
        self.announce_data = True

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next received bytes; all before them must have been consumed by `next`."""
        self.view = memoryview(data)
        self.at = 0

    def keep(self) -> None:
        """Copy what has not been consumed, before the memory that it is in is used again."""
        self.view = memoryview(bytes(self.view[self.at :]))
        self.at = 0

    @property
    def mid_pdu(self) -> bool:
        """Whether what was returned last does not end a PDU."""
        return self.pdu_type is not None or bool(self.head)

    def next(self) -> Frame | Fragment | None:
        """Return what comes next in the stream, or None when more bytes are needed.

        Raises
        ------
        RemoteProtocolError
            For an unknown PDU type, or a length that is impossible or above its ceiling.
        """
        while True:
            if self._in_pdv:
                return self._next_piece()
            pdu_type = self.pdu_type
            if pdu_type is _P_DATA:
                if (header := self._header(_PDV_HEADER)) is None:
                    return None
                self._begin_pdv(*header)
            elif pdu_type is not None:
                return self._next_frame(pdu_type)
            else:
                if (header := self._header(_PDU_HEADER)) is None:
                    return None
                if self._begin_pdu(*header):
                    return Frame(_P_DATA, _NOTHING)

    def _header(self, layout: struct.Struct) -> tuple[int, ...] | None:
        """Return the fields of the next header, of whichever kind, once all of it is here."""
        at = self.at
        end = at + _HEADER_SIZE
        if end <= len(self.view) and not self.head:
            self.at = end
            return layout.unpack_from(self.view, at)
        piece = self.view[at : end - len(self.head)]
        self.at = at + len(piece)
        self.head += piece
        if len(self.head) < _HEADER_SIZE:
            return None
        fields = layout.unpack(self.head)
        self.head.clear()
        return fields

    def _begin_pdu(self, code: int, length: int) -> bool:
        """Enter the PDU whose header was read; true if it is to be announced."""
        pdu_type = _TYPES.get(code)
        if pdu_type is _P_DATA:
            if length < _HEADER_SIZE:
                raise RemoteProtocolError(
                    f"P-DATA-TF of {length} bytes, without a presentation data value"
                )
        elif pdu_type is None:
            hint = ", by which the peer speaks TLS" if code in _TLS_RECORDS else ""
            raise RemoteProtocolError(
                f"unknown PDU type 0x{code:02X}{hint}", AbortReason.UNRECOGNIZED_PDU
            )
        else:
            limits = self._limits
            ceiling = limits.associate_pdu if pdu_type in _ASSOCIATE else limits.control_pdu
            if length > ceiling:
                raise RemoteProtocolError(
                    f"{pdu_type.name} PDU of {length} bytes is above the limit of {ceiling}"
                )
        self.pdu_type = pdu_type
        self._pdu_left = length
        return pdu_type is _P_DATA and self.announce_data

    def _begin_pdv(self, length: int, context_id: int, control: int) -> None:
        size = length - _PDV_OVERHEAD
        left = self._pdu_left - _HEADER_SIZE - size
        if size < 0 or left < 0 or 0 < left < _HEADER_SIZE:
            raise RemoteProtocolError(
                f"presentation data value of {length} bytes in {self._pdu_left} bytes of PDU"
            )
        self._pdu_left = left
        self._pdv_left = size
        self._context_id = context_id
        self._control = control
        self._in_pdv = True

    def _next_piece(self) -> Fragment | None:
        """Return what is here of the PDV that we are inside of."""
        at = self.at
        data = self.view[at : at + self._pdv_left]
        size = len(data)
        left = self._pdv_left - size
        if left:
            if not size:
                return None
        else:
            self._in_pdv = False
            if not self._pdu_left:
                self.pdu_type = None
        self.at = at + size
        self._pdv_left = left
        return Fragment(self._context_id, self._control, data, not left)

    def _next_frame(self, pdu_type: PDUType) -> Frame | None:
        """Return the PDU that we are inside of, once all of it is here."""
        at = self.at
        piece = self.view[at : at + self._pdu_left]
        self.at = at + len(piece)
        self._pdu_left -= len(piece)
        if self._pdu_left:
            self._body += piece
            return None
        self.pdu_type = None
        if not self._body:
            return Frame(pdu_type, piece)
        body = memoryview(self._body + piece)
        self._body = bytearray()
        return Frame(pdu_type, body)
