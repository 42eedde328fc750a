"""How objects get to a destination: by C-STORE, over one association or several.

`sending` decides which objects, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol

from dicomwire import Association
from dicomwire.errors import AssociationFailure
from dicomwire.node.archive import Archive
from dicomwire.node.configuration import Destination
from dicomwire.node.forwarding.pending import Pending
from dicomwire.node.outgoing import Unreachable
from dicomwire.node.retrieve import accepted_by, contexts_for, to_send
from dicomwire.node.transcode import CannotTranscode


class Result(NamedTuple):
    """What became of an object."""

    object: Pending
    error: Exception | None
    """Why the destination has not stored it; None if it has."""


class Transport(Protocol):
    """Sends to one destination, for one thread."""

    def send(self, objects: Sequence[Pending]) -> Iterator[Result]:
        """Send objects, those of a series in order; yield the results.

        Objects without a result have not been tried, and have to be sent again.

        Raises
        ------
        Unreachable
            When the destination cannot be reached, or no longer; after the results.
        """

    def rest(self) -> None:
        """End all connections, since there is nothing to send for a while."""

    def stop(self) -> None:
        """Let `send` take no more objects; any thread may call it."""

    def abort(self) -> None:
        """Break all connections, so that `send` returns; any thread may call it."""


class Refused(Exception):
    """The destination has answered that it has not stored the object."""


class DicomTransport:
    """Sends by C-STORE.

    Parameters
    ----------
    title : str
        The name of the destination.
    destination : Destination
    archive : Archive
        Has the objects.
    """

    def __init__(self, title: str, destination: Destination, archive: Archive) -> None:
        self._lanes = [
            _Lane(title, destination.window, archive) for _ in range(destination.associations)
        ]
        self._threads = ThreadPoolExecutor(len(self._lanes), thread_name_prefix=f"send-{title}")

    def send(self, objects: Sequence[Pending]) -> Iterator[Result]:
        """Send objects; see `Transport`."""
        if len(self._lanes) == 1:
            yield from self._lanes[0].send(objects)
            return
        shares: list[list[Pending]] = [[] for _ in self._lanes]
        for each in objects:
            shares[each.series % len(shares)].append(each)
        results: SimpleQueue[Result | None] = SimpleQueue()

        def run(lane: _Lane, share: Sequence[Pending]) -> None:
            try:
                for result in lane.send(share):
                    results.put(result)
            finally:
                results.put(None)

        pairs = [(lane, share) for lane, share in zip(self._lanes, shares, strict=True) if share]
        running = [self._threads.submit(run, *pair) for pair in pairs]
        for _ in running:
            while (result := results.get()) is not None:
                yield result
        for share_sent in running:
            share_sent.result()

    def rest(self) -> None:
        """Release all associations."""
        for lane in self._lanes:
            lane.rest()

    def stop(self) -> None:
        """Take no more objects."""
        for lane in self._lanes:
            lane.is_stopped = True

    def abort(self) -> None:
        """Abort all associations."""
        for lane in self._lanes:
            lane.abort()
        self._threads.shutdown(wait=False)


class _Lane:
    """One association at a time.

    Attributes
    ----------
    is_stopped : bool
        Whether to take no more objects.
    """

    def __init__(self, title: str, window: int, archive: Archive) -> None:
        self._title = title
        self._window = window
        self._archive = archive
        self._association: Association | None = None
        self._proposed: set[tuple[str, str]] = set()
        """The SOP classes and transfer syntaxes proposed for the association."""
        self.is_stopped = False

    def send(self, objects: Sequence[Pending]) -> Iterator[Result]:
        """Send objects in order; see `Transport`."""
        association = self._association_for(objects)
        accepted = accepted_by(association)
        archive = self._archive

        def prepare(each: Pending, until_sent: ExitStack) -> Any:
            return to_send(
                *(each.found, accepted, archive.objects, archive.converters),
                *(until_sent, archive.name_of_moved),
            )

        sendable = [each for each in objects if _kind_of(each) in self._proposed]
        feed = Feed(sendable, prepare, lambda: self.is_stopped)
        is_lost = False
        with feed:
            for sent in _sent_on(association, feed):
                each = feed.end(sent.item)
                yield from feed.not_sent()
                if not isinstance(sent.failure, AssociationFailure):
                    yield Result(each, None if sent.is_stored else sent.failure or _refusal(sent))
                elif not is_lost:
                    # The peer serves them in order: the oldest one may have ended the association.
                    is_lost = True
                    yield Result(each, sent.failure)
            yield from feed.not_sent()
        if not association.is_established:
            self._association = None
            raise Unreachable(f"the association has ended: {association.failure}")

    def _association_for(self, objects: Sequence[Pending]) -> Association:
        """Return an association with contexts for the objects, or for most of them."""
        needed = {_kind_of(each) for each in objects}
        association = self._association
        if association is not None and association.is_established:
            if needed <= self._proposed:
                return association
            association.release()
        contexts = contexts_for([each.found for each in objects])
        self._proposed = {
            (str(each.abstract_syntax), str(each.transfer_syntax[0])) for each in contexts
        }
        outgoing = self._archive.outgoing
        self._association = outgoing.associate(self._title, contexts, window=self._window)
        return self._association

    def rest(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.release()

    def abort(self) -> None:
        """Abort the association, from any thread."""
        self.is_stopped = True
        association = self._association
        if association is not None:
            with suppress(AssociationFailure):
                association.abort(block=False)


class Feed:
    """Gives objects to an association when it can send them, and closes them when they are sent."""

    may_wait = False  # the library need not send what it has before it takes another one

    def __init__(
        self,
        objects: Sequence[Pending],
        prepare: Callable[[Pending, ExitStack], Any],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._objects = iter(objects)
        self._prepare = prepare
        self._is_stopped = is_stopped
        self._open: dict[int, tuple[Any, Pending, ExitStack]] = {}
        """By the id of what is sent, which is in here so that no other gets the same id."""
        self._failed: list[Result] = []

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1][2].close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while not self._is_stopped():
            each = next(self._objects)
            until_sent = ExitStack()
            try:
                item = self._prepare(each, until_sent)
            except CannotTranscode as error:
                until_sent.close()
                self._failed.append(Result(each, error))
            else:
                self._open[id(item)] = item, each, until_sent
                return item
        raise StopIteration

    def end(self, item: Any) -> Pending:
        """Close what was sent; return its object."""
        _, each, until_sent = self._open.pop(id(item))
        until_sent.close()
        return each

    def not_sent(self) -> Iterator[Result]:
        """Yield the objects that could not be prepared since the last call."""
        failed, self._failed = self._failed, []
        yield from failed


def _sent_on(association: Association, feed: Feed) -> Iterator[Any]:
    try:
        return association.send_c_stores(feed)
    except RuntimeError:  # the peer has just ended it
        raise Unreachable(f"the association has ended: {association.failure}") from None


def _kind_of(each: Pending) -> tuple[str, str]:
    return each.found.sop_class_uid, each.found.transfer_syntax_uid


def _refusal(sent: Any) -> Refused:
    comment = sent.status.get("ErrorComment")
    return Refused(f"the response is 0x{sent.code:04X}" + (f": {comment}" if comment else ""))
