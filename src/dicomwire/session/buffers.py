"""A few large buffers that are reused for reading and sending.

A caller takes one, uses it alone, and gives it back.
"""

from __future__ import annotations

BUFFER_SIZE = 256 * 1024
SENDING_SIZE = 1024 * 1024
"""Size of the buffer from which a thread sends a large object: one read and send for a CT slice."""

RECEIVE_BUFFER = 1024 * 1024
"""Received bytes that the system may buffer for one of our sockets, if its own limit allows.

With that many, the sender of large objects seldom waits for us. The system's own tuning begins
at an eighth of it, and grows with the round-trip time, which is near zero on one machine.
"""

# Free buffers kept of each size: few servers use more at a time, and few programs send more.
_KEPT_BUFFERS = {BUFFER_SIZE: 16, SENDING_SIZE: 4}

_free_buffers: dict[int, list[bytearray]] = {size: [] for size in _KEPT_BUFFERS}


def take_buffer(size: int = BUFFER_SIZE) -> bytearray:
    """Return a buffer of `size` bytes, one of the two sizes above; its content is arbitrary."""
    try:
        return _free_buffers[size].pop()
    except IndexError:
        return bytearray(size)


def give_buffer(buffer: bytearray) -> None:
    """Give back a buffer from `take_buffer`, once no view of it is in use."""
    size = len(buffer)
    if len(_free_buffers[size]) < _KEPT_BUFFERS[size]:
        _free_buffers[size].append(buffer)
