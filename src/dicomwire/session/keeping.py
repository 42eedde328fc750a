"""Receiving the dataset of a C-STORE: the status if its sink fails, and leading group 0002.

The sinks are in `data.sinks`; `intake` opens them.
"""

from __future__ import annotations

from dicomwire.data.encodings import encoding_of
from dicomwire.data.file_head import file_meta_values
from dicomwire.data.payloads import Payload
from dicomwire.data.sinks import Sink, SinkRefused
from dicomwire.logs import LOGGER, Between, log_refusal
from dicomwire.protocol.limits import MIB
from dicomwire.services import scp
from dicomwire.services.port import Incoming

OUT_OF_RESOURCES = 0xA700
"""Refused: Out of Resources (PS3.4 Table B.2-1)."""
CANNOT_UNDERSTAND = 0xC000
"""Error: Cannot understand (PS3.4 Table B.2-1)."""
MAY_BE_META = (b"", b"\2")
"""The first byte of a dataset that may begin with group 0002; empty if no byte has arrived."""
_LONGEST = MIB
"""Bytes of file meta information at most: the same limit as for reading files."""
_HEADER = 12
"""Bytes of the longest header of an element."""


def refuse_stored(incoming: Incoming, error: Exception, between: Between) -> None:
    """Refuse a C-STORE whose dataset could not be kept, and log why.

    An OSError comes from the system or a sink; any other exception is an error of the program.
    """
    about = between, incoming.context, incoming.message
    if isinstance(error, OSError):
        # Without the path that str(error) may have: the reason is sent to the peer, too.
        incoming.reason = f"The dataset cannot be kept: {error.strerror or error}"
        incoming.refusal = getattr(error, "status", OUT_OF_RESOURCES)
        log_refusal(*about, f"the dataset cannot be kept: {error}")
    else:
        incoming.reason = "The program failed to take the dataset"
        incoming.refusal = scp.STORE_HANDLER_FAILED
        log_refusal(*about, "the program failed to take the dataset", error)


def discard(sink: Sink) -> None:
    """Discard the data in `sink`; log an exception, which a sink of the program may raise."""
    try:
        sink.discard()
    except Exception:
        LOGGER.exception("A sink cannot be discarded")


class LeadingMeta:
    """Writes a dataset to `sink` without elements of group 0002 at its beginning.

    Some senders leave them there. In a file they would follow our own file meta information, and
    readers would take them for a part of it (PS3.10 Section 7.1). The request has the same values.
    """

    __slots__ = ("_enough", "_held", "_is_passed", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = bytearray()  # bytes that may belong to the group
        self._enough = _HEADER  # how many bytes to hold before the next look
        self._is_passed = False

    def write(self, chunks: list[memoryview]) -> None:
        """Take the next bytes; write those after the group to the sink."""
        if self._is_passed:
            self._sink.write(chunks)
            return
        for chunk in chunks:
            self._held += chunk
        if len(self._held) >= self._enough:
            self._look(is_whole=False)

    def _look(self, *, is_whole: bool) -> None:
        size = len(self._held)
        end = _end_of_meta(bytes(self._held))
        if end > _LONGEST or (is_whole and end > size):
            text = "it begins with file meta information that has no end"
            raise SinkRefused(text, CANNOT_UNDERSTAND)
        if end + _HEADER > size and not is_whole:
            # Double the size, so that the total time is in proportion to it.
            self._enough = max(2 * size, end + _HEADER)
            return
        if end:
            LOGGER.warning("File meta information at the start of a received dataset is left out")
        self._is_passed = True
        held, self._held = self._held, bytearray()
        self._sink.write([memoryview(held)[end:]])

    def finish(self) -> Payload:
        """Return the dataset, as `sink` does."""
        if not self._is_passed:
            self._look(is_whole=True)
        return self._sink.finish()

    def discard(self) -> None:
        """Discard all data."""
        self._held = bytearray()
        self._sink.discard()


def _end_of_meta(data: bytes) -> int:
    """Return where group 0002 ends; if it is there several times, the end of the last."""
    end, before = 0, -1
    while end > before:
        before, (_, end) = end, file_meta_values(data, end)
    return end


def without_meta(sink: Sink, incoming: Incoming) -> Sink:
    """Return `LeadingMeta` in front of `sink`; `sink` itself if the dataset is deflated."""
    _, _, is_deflated = encoding_of(str(incoming.context.transfer_syntax[0]))
    return sink if is_deflated else LeadingMeta(sink)
