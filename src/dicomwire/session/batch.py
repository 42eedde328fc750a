"""Small messages that leave together: laid out one after the other in a buffer, for one write.

What is too large for that is sent piece by piece by the faces, and nothing is sent here.
"""

from __future__ import annotations

from dicomwire.data.sources import Source
from dicomwire.protocol.association import AssociationProtocol
from dicomwire.protocol.dimse import OVERHEAD, fragment_size
from dicomwire.session.buffers import BUFFER_SIZE, give_buffer, take_buffer


class Batch:
    """Messages that are ready to be sent, and not sent yet.

    Attributes
    ----------
    end : int
        How many bytes they take; 0 if there are none.
    """

    def __init__(self) -> None:
        self._buffer: bytearray | None = None
        self.end = 0

    def has_room(self, protocol: AssociationProtocol, command: bytes, source: Source) -> bool:
        """Return whether a message fits, of a packed command and the dataset from `source`."""
        size = fragment_size(protocol.maximum_length)
        pdus = max(-(-source.length // size), 1)
        # One byte more, where the length of the dataset is odd.
        return self.end + len(command) + source.length + 1 + pdus * OVERHEAD <= BUFFER_SIZE

    def add(
        self, protocol: AssociationProtocol, context_id: int, command: bytes, source: Source
    ) -> None:
        """Take a message, for which there is room; if its dataset cannot be read, nothing."""
        if self._buffer is None:
            self._buffer = take_buffer()
        packer = protocol.packer(memoryview(self._buffer)[self.end :], context_id, command)
        gaps = packer.gaps(source.length)
        view = packer.seal(source.readinto(gaps) if gaps else 0, True)
        protocol.check_data(view)
        self.end += len(view)

    def content(self) -> memoryview:
        """Return what is to be sent."""
        return memoryview(self._buffer or b"")[: self.end]

    def clear(self) -> None:
        """Forget what has been sent, or never will be."""
        self.end = 0
        if self._buffer is not None:
            give_buffer(self._buffer)
            self._buffer = None
