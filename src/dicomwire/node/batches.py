"""The objects of a batch: what becomes of each, and which of them the store and the index get.

`commit` stores batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

from dicomwire.node.configuration import Duplicates
from dicomwire.node.index.reader import Stored
from dicomwire.node.index.writer import Placed
from dicomwire.node.ingest import Entry
from dicomwire.node.journal import Batch, Slot
from dicomwire.node.objects.port import Objects
from dicomwire.node.objects.spool import Spooled
from dicomwire.node.statuses import (
    COERCED,
    DUPLICATE,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from dicomwire.node.tasks.queue import NewTask


class Outcome(NamedTuple):
    """The result of storing an object."""

    status: int | None
    """The status of the response; None while it is undecided."""
    remark: str = ""
    """The format of a log line about it: for the UID of the object and the title of its sender."""


STORED = Outcome(SUCCESS)
KNOWN = Outcome(SUCCESS)
OF_OTHER_PATIENT = Outcome(
    COERCED,
    "%s from %s has another Patient ID than its study: queries find it by that of the study",
)
REFUSED = Outcome(DUPLICATE, "%s from %s is refused: the archive has another object of this UID")
OF_REJECTED = Outcome(NOT_AUTHORIZED, "%s from %s is refused: the archive has rejected it")
IGNORED = Outcome(SUCCESS, "%s from %s is ignored: the archive has another object of this UID")
OUTSIDE = Outcome(
    NOT_AUTHORIZED, "%s from %s is refused: it belongs to a study that the sender may not see"
)
FAILED = Outcome(OUT_OF_RESOURCES)
UNDECIDED = Outcome(None)
_OF_DUPLICATES = {Duplicates.KEEP_FIRST: REFUSED, Duplicates.IGNORE: IGNORED}
"""The outcome of different data with a known UID, for the policies that keep only the first."""


class Arrived:
    """An object in the spool that can be stored: `Committer.read` makes it.

    Attributes
    ----------
    entry : Entry
        Its UIDs, and its values for the index.
    """

    __slots__ = (
        "digest",
        "entry",
        "equals",
        "others",
        "outcome",
        "spooled",
        "tasks",
        "to_compare",
        "uid",
    )

    def __init__(self, spooled: Spooled, entry: Entry) -> None:
        self.tasks: Sequence[NewTask] = ()
        """The tasks that it causes if it is stored."""
        self.spooled = spooled
        self.entry = entry
        self.uid = entry.instance_uid
        self.digest = spooled.digest(entry.origin.transfer_syntax_uid).hex()
        self.outcome = STORED
        """The outcome if the batch succeeds; final when its group is done."""
        self.equals = {self.digest}
        """The digests of datasets with the same content, also in another encoding."""
        self.others: set[str] = set()
        """The digests of datasets with other content."""
        self.to_compare: list[Stored] = []
        """Stored objects to compare it with before its outcome can be decided."""

    @property
    def is_new(self) -> bool:
        """Whether it was stored, and the archive did not have it before."""
        return self.outcome is STORED or self.outcome is OF_OTHER_PATIENT

    @property
    def is_discarded(self) -> bool:
        """Whether it was answered with success, though the archive has other data instead."""
        return self.outcome is IGNORED


class Group:
    """Objects of a thread that waits until they are committed, all in one batch."""

    __slots__ = ("is_done", "objects", "wake")

    def __init__(self, objects: Sequence[Arrived]) -> None:
        self.objects = objects
        self.is_done = False
        """Whether a batch with these objects has been committed, or has failed."""
        self.wake = threading.Lock()
        """The thread of the objects waits for it; the leader of a batch releases it."""
        self.wake.acquire()


class Waiters:
    """Those who wait for a batch: the threads of other groups, and the peer of the leader's object.

    Parameters
    ----------
    groups : sequence of Group
        The other groups.
    own : sequence of Arrived
        The leader's own objects.
    respond : callable, optional
        Sends the peer of the leader's only object the response 0x0000, without waiting.
    """

    __slots__ = ("_groups", "_own", "_respond", "are_told")

    def __init__(
        self,
        groups: Sequence[Group],
        own: Sequence[Arrived],
        respond: Callable[[], object] | None,
    ) -> None:
        self._groups = groups
        self._own = own
        self._respond = respond
        self.are_told = False
        """Whether they know what has become of the objects."""

    @property
    def are_there(self) -> bool:
        """Whether anybody can be told, now that the outcomes are final."""
        return bool(self._groups) or self._may_respond

    @property
    def _may_respond(self) -> bool:
        return self._respond is not None and self._own[0].outcome.status == SUCCESS

    def tell(self) -> None:
        """Let them know, before the leader has ended the batch."""
        self.are_told = True
        if self._respond is not None and self._may_respond:
            self._respond()
        self.wake()

    def wake(self) -> None:
        """Wake the threads, those that are not awake yet."""
        groups, self._groups = self._groups, ()
        for group in groups:
            group.is_done = True
            group.wake.release()


class Doubtful(NamedTuple):
    """A batch whose commit was interrupted, so that it may be in the index, or not."""

    uids: list[str]
    names: list[str]
    """The objects put into the store, and those to remove from it."""


class Plan:
    """What the store and the index do with the objects of one batch.

    Parameters
    ----------
    objects : Objects
    duplicates : Duplicates

    Attributes
    ----------
    accepted : dict
        The objects to publish, with the number of the copy.
    published : list of Spooled
        The same, as the store takes them, once `end` was called.
    tasks : list
        Those that they cause, of each that causes any; also from then on.
    names : list of str
        Their names in the store, once they are known.
    """

    __slots__ = (
        "_copies",
        "_duplicates",
        "_objects",
        "_rejected",
        "_slots",
        "accepted",
        "missing",
        "names",
        "published",
        "superseded",
        "tasks",
    )

    def __init__(self, objects: Objects, duplicates: Duplicates) -> None:
        self._objects = objects
        self._duplicates = duplicates
        self._rejected: Container[str] = ()
        self._copies: dict[str, list[Stored | Arrived]] = {}
        self._slots: list[Slot] = []
        self.accepted: dict[Arrived, int] = {}
        self.published: list[Spooled] = []
        self.tasks: list[Sequence[NewTask]] = []
        self.superseded: list[Stored] = []
        """Stored objects to remove once the accepted ones are durable."""
        self.missing: list[str] = []
        """Files of these that do not exist, unless another process has replaced their objects."""
        self.names: list[str] = []

    def know(self, known: dict[str, list[Stored]], rejected: Container[str]) -> None:
        """Take what the index has of the UIDs of the batch, before any of its objects is added."""
        if known:
            self._copies = {uid: self._present(copies) for uid, copies in known.items()}
        self._rejected = rejected

    def _present(self, copies: list[Stored]) -> list[Stored | Arrived]:
        """Return those whose file exists: an object without a file does not count as a copy."""
        present: list[Stored | Arrived] = []
        for stored in copies:
            if self._objects.exists(stored.file):
                present.append(stored)
            else:
                self.missing.append(stored.file)
                self.superseded.append(stored)
        return present

    def add(self, waiting: Arrived) -> None:
        """Decide the outcome of an object, with regard to those before it in the batch."""
        if waiting.uid in self._rejected:
            waiting.outcome = OF_REJECTED
            return
        copies = self._copies.get(waiting.uid)
        if not copies:
            self._copies[waiting.uid] = [waiting]
            self.accepted[waiting] = 0
        elif not self._is_decided(waiting, copies):
            self._accept_beside(waiting, copies)

    def _is_decided(self, waiting: Arrived, copies: Sequence[Stored | Arrived]) -> bool:
        """Decide the outcome of an object if it is not to be accepted, or not yet."""
        name = waiting.spooled.name
        if name and any(isinstance(copy, Stored) and copy.file.endswith(name) for copy in copies):
            waiting.spooled.give()  # the index was made again meanwhile, and has this very object
            return True
        if any(copy.digest in waiting.equals for copy in copies):
            waiting.outcome = KNOWN
            return True
        unknown = [copy for copy in copies if copy.digest not in waiting.others]
        if unknown:
            # Those of this batch cannot be compared yet: they will be in the index when the
            # object comes back with the next batch.
            waiting.to_compare = [copy for copy in unknown if isinstance(copy, Stored)]
            waiting.outcome = UNDECIDED
            return True
        if self._duplicates in _OF_DUPLICATES:
            waiting.outcome = _OF_DUPLICATES[self._duplicates]
            return True
        return False

    def _accept_beside(self, waiting: Arrived, copies: list[Stored | Arrived]) -> None:
        """Accept an object of a UID that has copies with other content."""
        number = 0
        if self._duplicates is Duplicates.REPLACE:
            for copy in copies:
                if isinstance(copy, Stored):
                    self.superseded.append(copy)
                else:
                    del self.accepted[copy]
            copies.clear()
        else:
            number = 1 + max(
                copy.copy if isinstance(copy, Stored) else self.accepted[copy] for copy in copies
            )
        copies.append(waiting)
        self.accepted[waiting] = number

    def end(self) -> None:
        """List what store, journal and index get: the outcome of all objects is decided."""
        replaced: Container[str] = ()
        if self.superseded:
            replaced = {stored.sop_instance_uid for stored in self.superseded}
        for waiting, copy in self.accepted.items():
            self.published.append(waiting.spooled)
            self._slots.append(Slot(waiting.uid, copy, waiting.uid in replaced))
            if waiting.tasks:
                self.tasks.append(waiting.tasks)

    def noted(self, number: int, tasks: Sequence[NewTask]) -> Batch:
        """Return what the journal says of the batch."""
        removed = self.files_to_remove() if self.superseded else ()
        return Batch(number, self._slots, removed, tasks)

    def files_to_remove(self) -> list[str]:
        """Return the names of the superseded objects."""
        return [stored.file for stored in self.superseded]

    def placed(self) -> list[Placed]:
        """Return the accepted objects, in their order, as the index takes them."""
        placed: list[Placed] = []
        for waiting, slot, name in zip(self.accepted, self._slots, self.names, strict=True):
            spooled = waiting.spooled
            placed.append(
                Placed(
                    *(waiting.entry, name, spooled.file_size, waiting.digest, spooled.received),
                    *slot[1:],
                )
            )
        return placed
