"""Converts messages to presentation data values and back (PS3.7 Section 6.3.1, PS3.8 Annex E).

Datasets pass through as views of their encoded bytes; this module does not decode them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.command import Command, Message, decode_command, encode_command
from dicomwire.protocol.events import CommandReceived, DataReceived
from dicomwire.protocol.framing import COMMAND, HEADERS, LAST, Fragment, Framer
from dicomwire.protocol.limits import Limits
from dicomwire.protocol.pdu import PDataTF
from dicomwire.protocol.usual import (
    UID_LENGTH_AT,
    decode_rest,
    decode_start,
    encode_usual,
    start_size,
)

if TYPE_CHECKING:
    from pydicom.uid import UID

OVERHEAD = HEADERS.size
_IN_PDU = 6
"""Bytes of the PDV header; the maximum length of a PDU includes them."""
_P_DATA = 0x04
UNLIMITED_LENGTH = 128 * 1024
"""The PDU length that we use when the peer sets no maximum (it sent 0)."""
_USUAL_SIZE = 256
"""The most bytes of a usual command set: about 80, and two UIDs of up to 64 characters."""
_UID_LENGTH_AT = OVERHEAD + UID_LENGTH_AT
_MOST_KNOWN = 64
"""The most beginnings of messages that are remembered: more than the SOP classes of a peer."""
_Start: TypeAlias = "tuple[int, int, Command, UID]"
"""The size of a PDU, and its presentation context, command and SOP class."""
_SMALLEST = _IN_PDU + 2
"""The smallest maximum length: a PDV header and two bytes, since fragments have even length."""


def _violation(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, AbortReason.NOT_SPECIFIED, AbortSource.SERVICE_USER)


def fragment_size(maximum_length: int) -> int:
    """Return the most bytes of data for one PDU under the peer's `maximum_length` (0: no maximum).

    The number is even, because every fragment must have an even length (PS3.8 Annex E.1).
    """
    return (max(maximum_length or UNLIMITED_LENGTH, _SMALLEST) - _IN_PDU) & ~1


class Assembler:
    """Joins the fragments of one association into command sets and datasets.

    Attributes
    ----------
    context_id : int
        The presentation context of the message being received; 0 if there is none.
    chunks : list of memoryview
        Received pieces of the current dataset that have not been returned yet.
    """

    __slots__ = (
        "_command",
        "_known",
        "_limits",
        "_message",
        "_usual_size",
        "chunks",
        "context_id",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._usual_size = min(_USUAL_SIZE, limits.command_set)
        self._command = bytearray()
        # Of usual messages, by their bytes before the message ID: most of an association have the
        # same ones, which need not be looked at again.
        self._known: dict[bytes, _Start] = {}
        self.context_id = 0
        self._message: Message | None = None  # the message whose dataset is being received
        self.chunks: list[memoryview] = []

    @property
    def mid_message(self) -> bool:
        """Whether a message has been received in part."""
        return self.context_id != 0

    def add(self, fragment: Fragment) -> CommandReceived | DataReceived | None:
        """Take the next fragment; return the command set or dataset that it completes, if any.

        Raises
        ------
        RemoteProtocolError
            For a fragment out of order, or a command set that is invalid or too long.
        """
        if fragment.control & COMMAND:
            return self._add_command(fragment)
        if self._message is None:
            raise _violation("dataset fragment that no command announced")
        if fragment.context_id != self.context_id:
            raise _violation(
                f"dataset on presentation context {fragment.context_id}, "
                f"its command on {self.context_id}"
            )
        if fragment.data:
            self.chunks.append(fragment.data)
        if not (fragment.complete and fragment.control & LAST):
            return None
        self._message = None
        self.context_id = 0
        return DataReceived(self._take_chunks(), complete=True)

    def take_usual(
        self, framer: Framer, accepted_ids: frozenset[int]
    ) -> CommandReceived | DataReceived | None:
        """Return the event of the usual P-DATA-TF PDUs that were received next.

        A usual command set has a fixed layout and is complete in one PDU; what has arrived of its
        dataset comes with it. The result is None for any other PDU, which `Framer.next` and `add`
        handle. Most messages take this short cut.
        """
        if self._message is not None:
            return self._usual_data(framer)
        view, at = framer.view, framer.at
        if framer.pdu_type is not None or self.context_id or len(view) - at <= _UID_LENGTH_AT:
            return None
        middle = at + start_size(view[at + _UID_LENGTH_AT]) + OVERHEAD
        start = bytes(view[at:middle])
        known = self._known.get(start)
        if known is None and (known := self._learn(start)) is None:
            return None
        size, context_id, command, class_uid = known
        end = at + size
        if end > len(view) or context_id not in accepted_ids:
            return None
        message = decode_rest(command, class_uid, bytes(view[middle:end]))
        if message is None:
            return None
        framer.at = end
        if not message.has_dataset:
            return CommandReceived(context_id, message)
        self._message = message
        self.context_id = context_id
        return CommandReceived(context_id, message, self._usual_data(framer))

    def waits(self, framer: Framer, accepted_ids: frozenset[int]) -> bool:
        """Return whether a usual command set has begun, and hold what has arrived of it until then.

        Some senders send the headers of a PDU by themselves, and few receive them together with the
        rest. A command set that is parsed in parts takes three times as long.
        """
        view, at = framer.view, framer.at
        there = len(view) - at
        if framer.pdu_type is not None or self.context_id or there < OVERHEAD:
            return False
        pdu_type, length, size, context_id, control = HEADERS.unpack_from(view, at)
        if (
            pdu_type != _P_DATA
            or control != COMMAND | LAST
            or size + 4 != length
            or size > self._usual_size
            or there >= length + _IN_PDU
            or context_id not in accepted_ids
        ):
            return False
        framer.hold()
        return True

    def _learn(self, start: bytes) -> _Start | None:
        """Return what is known of the messages that begin with `start`; None if not usual."""
        pdu_type, length, size, context_id, control = HEADERS.unpack_from(start)
        decoded = decode_start(start[OVERHEAD:])
        if (
            decoded is None
            or pdu_type != _P_DATA
            or control != COMMAND | LAST
            or size + 4 != length
            or size > self._usual_size
        ):
            return None
        known = length + _IN_PDU, context_id, *decoded
        if len(self._known) < _MOST_KNOWN:
            self._known[start] = known
        return known

    def _usual_data(self, framer: Framer) -> DataReceived | None:
        """Return the pieces of the current dataset in usual PDUs; None if there are none."""
        pieces, is_complete = framer.take_dataset(self.context_id)
        if is_complete:
            self._message = None
            self.context_id = 0
        return DataReceived(pieces, is_complete) if pieces else None

    def data_so_far(self) -> DataReceived | None:
        """Return the pieces of the dataset received since the last call; None if there are none."""
        return DataReceived(self._take_chunks(), complete=False) if self.chunks else None

    def _take_chunks(self) -> list[memoryview]:
        chunks, self.chunks = self.chunks, []
        return chunks

    def _add_command(self, fragment: Fragment) -> CommandReceived | None:
        context_id, data = fragment.context_id, fragment.data
        if self._message is not None:
            raise _violation(f"command before the dataset of {self._message.name} ended")
        if self.context_id not in (0, context_id):
            raise _violation(
                f"command fragments on presentation contexts {self.context_id} and {context_id}"
            )
        if len(self._command) + len(data) > self._limits.command_set:
            raise _violation(f"command set of more than {self._limits.command_set} bytes")
        if not (fragment.complete and fragment.control & LAST):
            self.context_id = context_id
            self._command += data
            return None
        if self._command:
            self._command += data
            message = decode_command(memoryview(self._command))
            self._command = bytearray()
        else:
            message = decode_command(data)
        if message.has_dataset:
            self._message = message
            self.context_id = context_id
        else:
            self.context_id = 0
        return CommandReceived(context_id, message)


def pack_command(context_id: int, message: Message, maximum_length: int) -> bytes:
    """Return the P-DATA-TF PDUs that carry the command set of `message`."""
    command = encode_usual(message) or encode_command(message)
    length = len(command)
    if length + _IN_PDU <= (maximum_length or UNLIMITED_LENGTH):  # command sets have even length
        return (
            HEADERS.pack(_P_DATA, length + _IN_PDU, length + 2, context_id, COMMAND | LAST)
            + command
        )
    size = fragment_size(maximum_length)
    packed = []
    for start in range(0, len(command), size):
        piece = command[start : start + size]
        control = COMMAND | (LAST if start + size >= len(command) else 0)
        packed.append(_headers(context_id, control, len(piece)) + piece)
    return b"".join(packed)


def pack_small_data(
    context_id: int, data: bytes | bytearray | memoryview, maximum_length: int
) -> bytes | None:
    """Return the P-DATA-TF PDU that carries a whole dataset; None if it needs several.

    A dataset of odd length gets a trailing NUL, as in `Packer.seal`.
    """
    padding = b"\0" if len(data) % 2 else b""
    size = len(data) + len(padding)
    if size + _IN_PDU > (maximum_length or UNLIMITED_LENGTH):
        return None
    header = HEADERS.pack(_P_DATA, size + _IN_PDU, size + 2, context_id, LAST)
    return b"".join((header, data, padding))


def _headers(context_id: int, control: int, size: int) -> bytes:
    return HEADERS.pack(_P_DATA, size + _IN_PDU, size + 2, context_id, control)


class Packer:
    """Builds the P-DATA-TF PDUs of a message in a buffer that the dataset is read into directly.

    The caller reads the dataset into the places that `gaps` returns; `seal` then writes the PDU
    headers between them and returns the bytes to send. So the dataset is never copied.

    Parameters
    ----------
    buffer : memoryview
        Writable, reused from call to call; it must hold the command and part of the dataset.
    """

    __slots__ = ("_buffer", "_context_id", "_size", "_start")

    def __init__(
        self, buffer: memoryview, context_id: int, maximum_length: int, command: bytes
    ) -> None:
        self._buffer = buffer
        self._context_id = context_id
        self._start = len(command)
        self._size = fragment_size(maximum_length)
        buffer[: self._start] = command

    def gaps(self, wanted: int) -> list[memoryview]:
        """Return places for up to `wanted` bytes of data; fewer if the buffer is too small."""
        buffer, size = self._buffer, self._size
        at = self._start + OVERHEAD
        end = len(buffer)
        places = []
        while wanted > 0:
            length = min(size, wanted, (end - at) & ~1)
            if length <= 0:
                break
            places.append(buffer[at : at + length])
            wanted -= length
            at += length + OVERHEAD
        return places

    def seal(self, filled: int, last: bool) -> memoryview:
        """Return the bytes to send after `filled` bytes were put into the gaps, in order.

        The next `gaps` starts at the beginning of the buffer again. `last` marks the end of the
        dataset; if its length is odd (a deflated one's may be), it gets the trailing NUL that
        PS3.5 Annex A.5 requires.
        """
        buffer, size, context_id = self._buffer, self._size, self._context_id
        at = self._start
        self._start = 0
        pack_into = HEADERS.pack_into
        while filled > size:
            pack_into(buffer, at, _P_DATA, size + _IN_PDU, size + 2, context_id, 0)
            at += OVERHEAD + size
            filled -= size
        control = 0
        if last:
            control = LAST
            if filled % 2:
                buffer[at + OVERHEAD + filled] = 0
                filled += 1
        pack_into(buffer, at, _P_DATA, filled + _IN_PDU, filled + 2, context_id, control)
        return buffer[: at + OVERHEAD + filled]


def unpack_pdus(packed: memoryview) -> list[PDataTF]:
    """Return the PDUs in the output of `pack_command` or `Packer`, for an `Observer`."""
    pdus = []
    at = 0
    while at < len(packed):
        _, _, length, context_id, control = HEADERS.unpack_from(packed, at)
        end = at + OVERHEAD + length - 2
        pdus.append(PDataTF([(context_id, control, bytes(packed[at + OVERHEAD : end]))]))
        at = end
    return pdus


class PDUCollector:
    """Rebuilds P-DATA-TF PDUs from fragments, for an `Observer`.

    Of a PDU longer than `maximum` bytes it keeps only the beginning: a peer chooses the length,
    and an observer needs enough for a log or a handler, not all of a large object.
    """

    __slots__ = ("_in_pdv", "_maximum", "_room", "_values")

    def __init__(self, maximum: int = 1 << 20) -> None:
        self._maximum = maximum
        self._room = maximum
        self._values: list[tuple[int, int, bytearray]] = []
        self._in_pdv = False

    def add(self, fragment: Fragment, ends_pdu: bool) -> PDataTF | None:
        """Take the next fragment; return the PDU if the fragment ends it."""
        if not self._in_pdv and self._room > 0:
            self._values.append((fragment.context_id, fragment.control, bytearray()))
            self._room -= _IN_PDU
        self._in_pdv = not fragment.complete
        if self._room > 0:
            piece = fragment.data[: self._room]
            self._values[-1][2].extend(piece)
            self._room -= len(piece)
        if not ends_pdu:
            return None
        pdu = PDataTF(
            [(context_id, control, bytes(data)) for context_id, control, data in self._values]
        )
        self._values.clear()
        self._room = self._maximum
        return pdu
