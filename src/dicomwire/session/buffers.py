"""A few large buffers that are reused for reading and sending.

A caller takes one, uses it alone, and gives it back.
"""

from __future__ import annotations

BUFFER_SIZE = (256 + 16) * 1024
"""Bytes that are read or sent at a time. With more, they would have left the cache of the processor
between the two; a megabyte takes a quarter more processor time.

Images mostly have a power of two as the size of their pixel data. The 16 KiB are for what comes
before these, and for PDU headers: otherwise each image would end with a read of some hundred bytes.
"""

RECEIVE_BUFFER = 1024 * 1024
"""Received bytes that the system may buffer for one of our sockets, if its own limit allows.

With that many, the sender of large objects seldom waits for us. The system's own tuning begins
at an eighth of it, and grows with the round-trip time, which is near zero on one machine.
"""

_MOST_KEPT = 16  # free buffers: few servers and programs use more at a time

_free_buffers: list[bytearray] = []


def take_buffer() -> bytearray:
    """Return a buffer of `BUFFER_SIZE` bytes; its content is arbitrary."""
    try:
        return _free_buffers.pop()
    except IndexError:
        return bytearray(BUFFER_SIZE)


def give_buffer(buffer: bytearray) -> None:
    """Give back a buffer from `take_buffer`, once no view of it is in use."""
    if len(_free_buffers) < _MOST_KEPT:
        _free_buffers.append(buffer)
