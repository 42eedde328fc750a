"""How objects get to a destination that is a DICOMweb server: by STOW-RS (PS3.18 Section 10.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Destination
from dicomwire.node.forwarding.pending import Pending
from dicomwire.node.forwarding.transports import Feed, Refused, Result
from dicomwire.node.outgoing import Unreachable
from dicomwire.node.retrieve import to_send
from dicomwire.web.failures import WebFailure

if TYPE_CHECKING:
    from dicomwire.web.client import Client
    from dicomwire.web.uploads import Stored

_OF_OBJECTS = (400, 409, 413, 415, 422)
"""The statuses of responses by which the server refuses what is in the request. Others, such as 401
and 503, would be the same for all objects."""


class WebTransport:
    """Sends by STOW-RS; see `transports.Transport`.

    Objects are sent in the transfer syntax in which they are stored. Each request has several.

    Parameters
    ----------
    destination : Destination
        With a URL.
    archive : Archive
        Has the objects.
    """

    def __init__(self, destination: Destination, archive: Archive) -> None:
        self._destination = destination
        self._archive = archive
        self._client: Client | None = None
        self._is_stopped = False

    def send(self, objects: Sequence[Pending]) -> Iterator[Result]:
        """Send objects, and yield the result of each."""
        if self._client is None:
            self._client = self._archive.outgoing.client(self._destination)
        feed = Feed(objects, self._prepare, lambda: self._is_stopped)
        with feed:
            for stored in self._client.store(feed):
                each = feed.end(stored.item)
                yield from feed.not_sent()
                failure = stored.failure
                if isinstance(failure, WebFailure) and failure.status not in _OF_OBJECTS:
                    raise Unreachable(str(failure))
                yield Result(each, None if stored.is_stored else failure or _refusal(stored))
            yield from feed.not_sent()

    def rest(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def stop(self) -> None:
        """Take no more objects."""
        self._is_stopped = True

    def abort(self) -> None:
        """Close the connections, from any thread."""
        self._is_stopped = True
        self.rest()

    def _prepare(self, each: Pending, until_sent: ExitStack) -> Any:
        archive, found = self._archive, each.found
        own = {found.sop_class_uid: {found.transfer_syntax_uid: None}}
        return to_send(
            *(found, own, archive.objects, archive.converters, until_sent, archive.name_of_moved)
        )


def _refusal(stored: Stored) -> Refused:
    if stored.status is None:
        return Refused("the response states no reason")
    return Refused(f"the response is 0x{stored.status:04X}")
