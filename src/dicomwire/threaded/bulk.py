"""Sends many objects to one peer, over several associations at a time, on threads.

`bulk.dispatcher` spreads the objects over the associations, and repeats them if necessary.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Self
from weakref import WeakSet

from dicomwire.bulk.dispatcher import Dispatcher, Face, Retry
from dicomwire.bulk.ledger import Ledger
from dicomwire.bulk.pipeline import Sent
from dicomwire.bulk.tasks import ContextKey, Feed, TaskPipeline
from dicomwire.data.blocking import run_blocking
from dicomwire.data.storable import Storable
from dicomwire.errors import AssociationFailure, ConnectionLost
from dicomwire.logs import LOGGER
from dicomwire.session.contexts import build_context
from dicomwire.threaded import threads
from dicomwire.threaded.ae import ApplicationEntity
from dicomwire.threaded.association import Association
from dicomwire.threaded.watcher import watcher


def send_many(
    ae: ApplicationEntity,
    address: tuple[Any, int],
    items: Iterable[Storable],
    *,
    associations: int = 1,
    processes: int = 1,
    window: int = 1,
    priority: int = 2,
    retry: Retry | None = None,
    ledger: str | os.PathLike[str] | None = None,
    transfer_syntax: str | None = None,
    ae_title: str = "ANY-SCP",
    **options: Any,
) -> SendMany:
    """Send any number of objects to a peer, in parallel, and again after temporary failures.

    The proposed presentation contexts are those that the first few hundred objects need; later
    objects of another kind get a new association. Each object is sent as it is.

    Parameters
    ----------
    ae : AE
        The sending AE. Its requested contexts are not used.
    address : tuple
        The peer's (host, port).
    items : iterable
        DICOM files and datasets, as `Association.send_c_store` takes them, taken as needed.
    associations : int
        How many associations to have at a time, at most.
    processes : int
        In how many processes to have them; by default in this one. With more, each is forked and
        gets its share of the associations. So take the first result before the program starts a
        thread, and only where programs may fork (not on macOS and Windows). Items are then paths,
        or others that can be pickled, and handlers of events run in these processes. If one dies,
        the others send its objects again.
    window : int
        How many objects to keep outstanding on each, if the peer grants that many.
    priority : int
        0 medium, 1 high, 2 low.
    retry : Retry, optional
        When to try again; `Retry(attempts=1)` for never.
    ledger : str or Path, optional
        A file that records the SOP Instance UIDs of stored objects, which are not sent again. An
        object whose response was lost is sent again, with the same UID.
    transfer_syntax : str, optional
        The transfer syntax to propose for all objects, instead of that of each object.
    ae_title : str
        The called AE title.
    **options
        Others of `AE.associate`: `max_pdu`, `ext_neg`, `bind_address`, `tls_args`,
        `evt_handlers`.

    Returns
    -------
    SendMany
        An iterator over the results, one `Sent` for each object, in the order of completion.

    Raises
    ------
    ValueError
        When the file is not a ledger for this peer, or a number is below 1.
    OSError
        When the ledger cannot be written.
    """
    if associations < 1:
        raise ValueError(f"associations is 1 or more, not {associations}")
    host, port = address
    options |= {"ae_title": ae_title, "window": window}
    own = _Associations(partial(ae.associate, host, port, **options))
    face: Face = own
    if (count := min(processes, associations)) > 1:
        from dicomwire.threaded.sending_processes import SendingProcesses

        face = SendingProcesses(own, count, associations)
    record = Ledger(ledger, f"{ae_title} at {host}:{port}") if ledger is not None else None
    dispatcher = Dispatcher(face, items, associations, priority, retry, record, transfer_syntax)
    return SendMany(dispatcher, face, associations, record)


class SendMany(Iterator[Sent]):
    """An iterator over the results of sent objects; a context manager that stops sending.

    Threads or processes of their own send the objects, beginning with the first call of `next`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        face: Face,
        senders: int,
        ledger: Ledger | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._face = face
        self._senders = senders
        self._ledger = ledger
        self._has_begun = False
        self._is_closed = False

    def __next__(self) -> Sent:
        if self._is_closed:
            raise StopIteration
        try:
            if not self._has_begun:
                self._face.start()
                self._has_begun = True
                for _ in range(self._senders):
                    threads.submit(partial(_run, self._dispatcher))
            sent = self._dispatcher.at_hand() or run_blocking(self._dispatcher.next())
        except BaseException:
            self.close()
            raise
        if sent is None:
            self.close()
            raise StopIteration
        return sent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def associations(self) -> int:
        """How many associations were established so far."""
        return self._dispatcher.associations

    def close(self, timeout: float = 2.0) -> None:
        """Send no more objects; after `timeout` seconds, abort associations with outstanding ones.

        The ledger has every answered object, also if its result has not been taken.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._has_begun:
            run_blocking(self._dispatcher.stop())
            self._face.stop()
            if not run_blocking(self._dispatcher.ended(timeout)):
                self._face.abort()
                run_blocking(self._dispatcher.ended(timeout))
        self._face.close()
        if self._ledger is not None:
            self._ledger.close()

    def __del__(self) -> None:
        # This may run on any thread, also while it holds a lock, so it must not wait for one.
        if not self._is_closed:
            watcher().call(self.close)


def _run(dispatcher: Dispatcher) -> None:
    try:
        run_blocking(dispatcher.run())
    except Exception:
        LOGGER.debug("A sender ended", exc_info=True)  # `next` raises its error


class _Monitor:
    """A `threading.Condition`, for coroutines that block."""

    def __init__(self) -> None:
        # Guards the queues of the dispatcher; only the ledger's lock is taken under it
        # (`threaded.link` has the order).
        self._condition = threading.Condition()

    async def __aenter__(self) -> Self:
        self._condition.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._condition.release()

    async def wait(self, timeout: float | None = None) -> None:
        self._condition.wait(timeout)

    def notify_all(self) -> None:
        self._condition.notify_all()


class _Associations(Face):
    """Associations, waiting and the clock of the threaded face."""

    now = staticmethod(time.monotonic)
    monitor = _Monitor

    def __init__(self, associate: partial[Association]) -> None:
        self._associate = associate
        self._associations: WeakSet[Association] = WeakSet()
        self._is_aborted = False

    async def associate(self, keys: list[ContextKey], feed: Feed, priority: int) -> TaskPipeline:
        association = self._associate([build_context(*key) for key in keys])
        if not association.is_established:
            raise association.failure or ConnectionLost("no association", stage="associate")
        self._associations.add(association)
        if self._is_aborted:
            association.abort(block=False)
        return TaskPipeline(association, feed, priority)

    def abort(self) -> None:
        self._is_aborted = True
        for association in list(self._associations):
            with suppress(AssociationFailure):
                association.abort(block=False)
