"""Splits the byte stream into PDUs, and P-DATA-TF PDUs into fragments as their bytes arrive.

No memory is allocated for a length that the peer claims. Other modules decode the contents.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicomwire.errors import AbortReason, RemoteProtocolError
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDUType

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")
HEADERS = struct.Struct(">BxIIBB")
"""PDU header and PDV header of a P-DATA-TF PDU with one presentation data value."""
COMMAND = 0x01
"""Message control header bit: the fragment belongs to a command set, not to a dataset."""
LAST = 0x02
"""Message control header bit: the fragment is the last one of its command set or dataset."""
_HEADER_SIZE = 6
"""Bytes of a PDU header, and of a PDV header (PS3.8 Sections 9.3.1 and 9.3.5.1).

So a P-DATA-TF PDU that holds a PDV has at least this many bytes after its header.
"""
_TLS, _HTTP, _SSH = "TLS: use it on both sides, or on neither", "HTTP, not DICOM", "SSH, not DICOM"
_LANGUAGES = {
    b"\x15": _TLS,  # an alert (RFC 8446 Section 5.1)
    b"\x16": _TLS,  # a handshake
    b"HTP/": _HTTP,  # HTTP/1.1
    b"<": _HTTP,  # a page without a status line
    b"GT /": _HTTP,  # GET /
    b"PST ": _HTTP,  # POST /
    b"HAD ": _HTTP,  # HEAD /
    b"PI *": _HTTP,  # PRI * HTTP/2.0 (RFC 9113 Section 3.4)
    b"SH-": _SSH,  # SSH-2.0 (RFC 4253 Section 4.2)
}
"""What else may be on a port, by the first bytes of a PDU header without the reserved second."""
_PDV_OVERHEAD = 2
"""Context ID and message control header: the length field of a PDV includes both."""

_LENGTH_FIELD = 4
"""Bytes of the length field of a PDV, which it does not include."""
_BOTH_HEADERS = HEADERS.size

_NOTHING = memoryview(b"")
_P_DATA = PDUType.P_DATA_TF
_TYPES = {int(t): t for t in PDUType}
_ASSOCIATE = (PDUType.ASSOCIATE_RQ, PDUType.ASSOCIATE_AC)


@dataclass(slots=True)
class ReceivedPDU:
    """A complete PDU; for P-DATA-TF only its start, with an empty body."""

    pdu_type: PDUType
    body: memoryview


@dataclass(slots=True)
class Fragment:
    """Part of one presentation data value (PS3.8 Section 9.3.5.1).

    `control` is its message control header; `complete` is true if the value ends here.
    """

    context_id: int
    control: int
    data: memoryview
    complete: bool


def _hint(code: int, length: int) -> str:
    """Return what the peer speaks instead of DICOM, if the fields of its first header tell."""
    head = _PDU_HEADER.pack(code, length)
    head = head[:1] + head[2:]
    spoken = (name for start, name in _LANGUAGES.items() if head.startswith(start))
    language = next(spoken, None)
    return f": the peer speaks {language}" if language else ""


class Framer:
    """Incremental parser: `feed` bytes, then call `next` until it returns None.

    Attributes
    ----------
    announce_data : bool
        Whether `next` returns a `ReceivedPDU` for the header of each P-DATA-TF PDU, before its
        fragments. The association sets it when each such PDU must go through the state table.
    view : memoryview
        The received bytes.
    at : int
        Index in `view` of the first byte that has not been consumed.
    pdu_type : PDUType or None
        The type of the current PDU; None between two PDUs.
    head : bytearray
        The received bytes of an incomplete header.
    held : bytes
        Received bytes that are to be parsed together with the next ones; see `hold`.
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
        "held",
        "pdu_type",
        "view",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.view = _NOTHING
        self.at = 0
        self.head = bytearray()
        self.held = b""
        self.pdu_type: PDUType | None = None
        self._pdu_left = 0  # bytes of the current PDU after the current PDV
        self._body = bytearray()  # received bytes of an incomplete PDU other than P-DATA-TF
        self._in_pdv = False
        self._pdv_left = 0
        self._context_id = 0
        self._control = 0
        self.announce_data = True

    def feed(self, data: memoryview | bytes, begins_with_held: bool = False) -> None:
        """Take the next received bytes; `next` must have consumed all earlier ones."""
        if begins_with_held:
            self.held = b""
        elif self.held and data:
            data, self.held = b"".join((self.held, data)), b""
        self.view = memoryview(data)
        self.at = 0

    def keep(self) -> None:
        """Copy the bytes not consumed yet, so that the caller can reuse the buffer."""
        self.view = memoryview(bytes(self.view[self.at :]))
        self.at = 0

    def hold(self) -> None:
        """Parse the bytes not consumed yet when more have arrived; they must be few."""
        self.held = bytes(self.view[self.at :])
        self.at = len(self.view)

    @property
    def mid_pdu(self) -> bool:
        """Whether a PDU has been received in part."""
        return self.pdu_type is not None or bool(self.head or self.held)

    def next(self) -> ReceivedPDU | Fragment | None:
        """Return the next frame or fragment in the stream, or None if more bytes are needed.

        Raises
        ------
        RemoteProtocolError
            For an unknown PDU type, or a length that is impossible or above its limit.
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
                    return ReceivedPDU(_P_DATA, _NOTHING)

    def _header(self, layout: struct.Struct) -> tuple[int, ...] | None:
        """Return the fields of the next PDU or PDV header; None until all of it has arrived."""
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
        """Start the PDU with this header; return whether `next` must announce it."""
        pdu_type = _TYPES.get(code)
        if pdu_type is _P_DATA:
            if length < _HEADER_SIZE:
                raise RemoteProtocolError(
                    f"P-DATA-TF of {length} bytes, without a presentation data value"
                )
        elif pdu_type is None:
            raise RemoteProtocolError(
                f"unknown PDU type 0x{code:02X}{_hint(code, length)}", AbortReason.UNRECOGNIZED_PDU
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
        """Return the received bytes of the current PDV."""
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

    def take_dataset(self, context_id: int) -> tuple[list[memoryview], bool]:
        """Return the received pieces of a dataset, and whether they end it.

        It stops before a PDU that is not usual, which `next` handles: a usual one has one
        presentation data value, of the dataset, and its headers are not cut.
        """
        view, at = self.view, self.at
        end = len(view)
        pieces: list[memoryview] = []
        is_inside = self._in_pdv
        if is_inside:
            control, stop = self._control, at + self._pdv_left
            if self._pdu_left or control & ~LAST or self._context_id != context_id:
                return pieces, False
            self._in_pdv, self.pdu_type = False, None
        elif self.pdu_type is not None:
            return pieces, False
        while True:
            if not is_inside:
                if end - at < _BOTH_HEADERS:
                    break
                code, length, size, pdv_context_id, control = HEADERS.unpack_from(view, at)
                if (
                    code != _P_DATA
                    or pdv_context_id != context_id
                    or control & ~LAST
                    or length != size + _LENGTH_FIELD
                    or size <= _PDV_OVERHEAD
                ):
                    break
                at += _BOTH_HEADERS
                stop = at + size - _PDV_OVERHEAD
            if stop > end:
                if at < end:
                    pieces.append(view[at:])
                self.at, self._pdv_left = end, stop - end
                self._in_pdv, self.pdu_type, self._pdu_left = True, _P_DATA, 0
                self._context_id, self._control = context_id, control
                return pieces, False
            pieces.append(view[at:stop])
            at, is_inside = stop, False
            if control:
                self.at = at
                return pieces, True
        self.at = at
        return pieces, False

    def _next_frame(self, pdu_type: PDUType) -> ReceivedPDU | None:
        """Return the current PDU (not P-DATA-TF); None until all of it has arrived."""
        at = self.at
        piece = self.view[at : at + self._pdu_left]
        self.at = at + len(piece)
        self._pdu_left -= len(piece)
        if self._pdu_left:
            self._body += piece
            return None
        self.pdu_type = None
        if not self._body:
            return ReceivedPDU(pdu_type, piece)
        body = memoryview(self._body + piece)
        self._body = bytearray()
        return ReceivedPDU(pdu_type, body)
