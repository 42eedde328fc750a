"""A few large buffers that are reused for reading and sending.

A caller takes one, uses it alone, and gives it back.
"""

from __future__ import annotations

BUFFER_SIZE = 256 * 1024
_KEPT_BUFFERS = 16
RECEIVE_BUFFER = 1024 * 1024
"""Received bytes that the system may buffer for one of our sockets, if its own limit allows.

With that many, the sender of large objects seldom waits for us. The system's own tuning begins
at an eighth of it, and grows with the round-trip time, which is near zero on one machine.
"""

_free_buffers: list[bytearray] = []


def take_buffer() -> bytearray:
    """Return a buffer of `BUFFER_SIZE` bytes; its content is arbitrary."""
    try:
        return _free_buffers.pop()
    except IndexError:
        return bytearray(BUFFER_SIZE)


def give_buffer(buffer: bytearray) -> None:
    """Give back a buffer from `take_buffer`, once no view of it is in use."""
    if len(_free_buffers) < _KEPT_BUFFERS:
        _free_buffers.append(buffer)
