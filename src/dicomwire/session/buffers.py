"""The buffers that bytes are read into and sent from: a few large ones, used again and again.

What is in them is known to who took them.
"""

from __future__ import annotations

BUFFER_SIZE = 256 * 1024
_KEPT_BUFFERS = 16
RECEIVE_BUFFER = 1024 * 1024
"""Bytes that the system may hold for a socket of ours, as far as its own ceiling allows.

So the sender of large objects seldom has to wait for us. The system's own tuning begins at an
eighth of that, and grows with the round-trip time, which says nothing on one machine.
"""

_free_buffers: list[bytearray] = []


def take_buffer() -> bytearray:
    """Return a buffer of `BUFFER_SIZE` bytes; its content is arbitrary."""
    try:
        return _free_buffers.pop()
    except IndexError:
        return bytearray(BUFFER_SIZE)


def give_buffer(buffer: bytearray) -> None:
    """Give back what `take_buffer` returned, when no view of it is in use any more."""
    if len(_free_buffers) < _KEPT_BUFFERS:
        _free_buffers.append(buffer)
