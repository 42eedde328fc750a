"""The archive as SCU of storage commitment (PS3.4 Section J.3): it asks destinations to commit.

An object that others want to be committed is a task (`WANTED`). Several of one destination become
the task of one transaction (`REQUEST`). It is there before the request is sent, so that the report
may come at any time, on any association, to any process: it is a task, too (`REPORT`).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from pydicom.dataset import Dataset

from dicomwire import build_context, evt
from dicomwire.data.codec import DatasetError, message_elements
from dicomwire.logs import counted, escaped
from dicomwire.node.commitment.references import (
    FAILED,
    SYNTAXES,
    TRANSACTION_UID,
    Malformed,
    Reference,
    dataset_of,
    failures_in,
    pack,
    references_in,
    syntax_of,
    uid_in,
    unpack,
)
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.writer import Writer
from dicomwire.node.outgoing import Outgoing, Unreachable
from dicomwire.node.statuses import (
    INVALID_ARGUMENT,
    NO_SUCH_EVENT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    failure,
)
from dicomwire.node.tasks.queue import NewTask, Queue, Task
from dicomwire.node.tasks.threads import Kind, Succeeded, Unfinished
from dicomwire.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

LOGGER = logging.getLogger("dicomwire.node")

WANTED = "commit-wanted"
REQUEST = "commit-request"
REPORT = "commit-report"
_SUCCESS = 0x0000
_EVENTS = (1, 2)
"""The event types: all objects are committed, or some are not (PS3.4 Section J.3.3.1)."""
_REQUEST_COMMITMENT = 1
"""The action type of a request."""
_GATHER = 1.0
"""Seconds until an object is asked for, so that several share a request."""
_MOST_OBJECTS = 1000
"""The most objects of a request: an archive that reads each of them needs seconds for these."""
_PATIENCE = 30.0
"""Seconds for which an association stays open for the report; archives that only report there do so
within that time, and others have a new association for it."""
_SOON = 0.5
"""Seconds until a report is looked at again, while its request is just being made."""
_AT_A_TIME = 4
"""The requests that are made at a time, each to a destination of its own as a rule."""


class Wanted(NamedTuple):
    """An object that a destination has received, and is to commit to."""

    destination: str
    sop_class_uid: str
    sop_instance_uid: str
    then: Sequence[NewTask]
    """The tasks to add when the destination has committed to it."""
    again: NewTask
    """The task to add when it has not: it sends the object again."""

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of its task."""
        tasks = [each._asdict() for each in self.then]
        return {**self._asdict(), "then": tasks, "again": self.again._asdict()}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Self:
        """Return the object of a payload."""
        then = [NewTask(**each) for each in payload["then"]]
        return cls(**{**payload, "then": then, "again": NewTask(**payload["again"])})

    @property
    def reference(self) -> Reference:
        """The reference to it."""
        return Reference(self.sop_class_uid, self.sop_instance_uid)


class Refused(OSError):
    """A destination does not take a request; the text says why."""


class Requests:
    """Requests storage commitment, and receives the reports, in one process of a node.

    Parameters
    ----------
    queue : Queue
    outgoing : Outgoing
    """

    def __init__(self, queue: Queue, outgoing: Outgoing) -> None:
        self._queue = queue
        self._outgoing = outgoing
        self._condition = threading.Condition()
        """Guards `_reported` and `_is_closing`; `_note` and `close` notify."""
        self._is_closing = False
        self._reported: dict[str, bool] = {}
        """Whether the report has come, of the requests that this process is just making."""

    def want(self, writer: Writer, objects: Sequence[Wanted]) -> None:
        """Ask the destinations of objects to commit to them, in a transaction of the index."""
        self._queue.add(writer, [NewTask(WANTED, each.payload, delay=_GATHER) for each in objects])

    def close(self) -> None:
        """Wait for no more reports on the associations of this process."""
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()

    def kinds(self) -> list[Kind]:
        """Return the kinds of tasks that a node runs for this."""
        return [
            Kind(WANTED, self._gather, batch=_MOST_OBJECTS),
            Kind(REQUEST, self._request, threads=_AT_A_TIME),
            Kind(REPORT, self._resolve),
        ]

    # --- Requests ---

    def _gather(self, tasks: Sequence[Task]) -> Mapping[Task, Exception]:
        """Make one request of the objects of each destination."""
        by_destination: dict[str, list[Mapping[str, Any]]] = {}
        for task in tasks:
            by_destination.setdefault(task.payload["destination"], []).append(task.payload)
        requests = []
        for destination, objects in by_destination.items():
            payload = {"destination": destination, "request": 0, "is_sent": False}
            requests.append(NewTask(REQUEST, {**payload, "objects": objects}, key=_new_uid()))
        return {tasks[0]: Succeeded(requests)}

    def _request(self, tasks: Sequence[Task]) -> None:
        """Send a request, and wait for the report as long as that may come on the association."""
        (task,) = tasks
        payload = task.payload
        number = payload["request"] + 1
        if payload["is_sent"]:
            destination = escaped(payload["destination"])
            LOGGER.warning("%s has not reported: commitment is requested again", destination)
            raise Unfinished({**payload, "request": number, "is_sent": False})
        with self._expecting(task.key):
            # A repeated request is another transaction: it need not be known how the first ended.
            self._send(task, f"{task.key}.{number}.{task.attempts}")
        raise Unfinished({**payload, "is_sent": True}, self._timeout(payload["destination"]))

    def _send(self, task: Task, uid: str) -> None:
        destination = task.payload["destination"]
        objects = (Wanted.of(each).reference for each in task.payload["objects"])
        references = list(dict.fromkeys(objects))  # two routes may send the same object
        uids = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        contexts = [build_context(StorageCommitmentPushModel, SYNTAXES)]
        handlers = [(evt.EVT_N_EVENT_REPORT, self.report)]
        with self._outgoing.associate(destination, contexts, evt_handlers=handlers) as association:
            syntax = syntax_of(association)
            if syntax is None:
                raise Refused(f"{escaped(destination)} does not accept storage commitment")
            dataset = dataset_of(uid, references, [], syntax)
            try:
                status, _ = association.send_n_action(dataset, _REQUEST_COMMITMENT, *uids)
            except RuntimeError as error:  # it has ended meanwhile
                raise Unreachable(str(error)) from None
            if "Status" not in status:
                raise Unreachable(f"{escaped(destination)} does not answer: {association.failure}")
            if status.Status:
                text = f"{escaped(destination)} answers the request with 0x{status.Status:04X}"
                raise Refused(text)
            text = "%s is asked to commit to %s: %s"
            LOGGER.info(text, escaped(destination), counted(len(references), "object"), uid)
            self._wait(task.key)

    def _timeout(self, title: str) -> float:
        destination = self._outgoing.configuration.destinations.get(title)
        return destination.report_timeout if destination is not None else 0.0

    @contextmanager
    def _expecting(self, key: str) -> Iterator[None]:
        """Note whether the report comes while the block runs."""
        with self._condition:
            self._reported[key] = False
        try:
            yield
        finally:
            with self._condition:
                del self._reported[key]

    def _wait(self, key: str) -> None:
        """Wait until the report has come, on whichever association; `_PATIENCE` at most."""
        with self._condition:
            self._condition.wait_for(lambda: self._reported[key] or self._is_closing, _PATIENCE)

    def _note(self, key: str) -> None:
        with self._condition:
            if key in self._reported:
                self._reported[key] = True
                self._condition.notify_all()

    # --- Reports ---

    def report(self, event: evt.Event) -> tuple[int | Dataset, None]:
        """Return the answer to an N-EVENT-REPORT; when it is success, the report is durable."""
        if event.request.AffectedSOPInstanceUID != StorageCommitmentPushModelInstance:
            return failure(NO_SUCH_INSTANCE, "only the well-known instance exists"), None
        if event.event_type not in _EVENTS:
            return failure(NO_SUCH_EVENT, "the event types are 1 and 2"), None
        try:
            self._keep(event)
        except (DatasetError, Malformed) as error:
            LOGGER.warning("A report of commitment is refused: %s", escaped(str(error)))
            return failure(INVALID_ARGUMENT, str(error)), None
        except IndexFailure as error:
            LOGGER.error("The index cannot be written: %s", reason_of(error))
            return failure(PROCESSING_FAILURE, "the index cannot be written"), None
        return _SUCCESS, None

    def _keep(self, event: evt.Event) -> None:
        """Add a task for a report, unless there is no such request, or a report of it."""
        limits = event.assoc.settings.limits
        elements = message_elements(event.payload or b"", event.context.transfer_syntax, limits)
        uid = uid_in(elements, TRANSACTION_UID)
        committed = references_in(elements)
        failures = failures_in(elements) if FAILED in elements else []
        key = _key_of(uid)
        with self._queue.index.writing() as writer:
            if not self._queue.of_key(writer, REQUEST, key):
                LOGGER.info("A report of commitment belongs to no open transaction: %s", uid)
                return
            if not self._queue.of_key(writer, REPORT, key):
                for reason in sorted({each.reason for each in failures}):
                    text = "Commitment %s: some objects failed with reason 0x%04X"
                    LOGGER.warning(text, uid, reason)
                payload = {"transaction": uid, "committed": pack(committed)}
                self._queue.add(writer, [NewTask(REPORT, payload, key)])
        self._note(key)

    def _resolve(self, tasks: Sequence[Task]) -> None:
        """End a request by its report."""
        (task,) = tasks
        self._note(task.key)  # if another process has received it
        committed = set(unpack(task.payload["committed"]))
        with self._queue.index.writing() as writer:
            for request in self._queue.of_key(writer, REQUEST, task.key):
                if not self._queue.claim(writer, request):
                    raise Unfinished(task.payload, _SOON)
                objects = [Wanted.of(each) for each in request.payload["objects"]]
                done = [each for each in objects if each.reference in committed]
                self._queue.add(writer, [new for each in done for new in each.then])
                again = [each.again for each in objects if each.reference not in committed]
                self._queue.add(writer, again)
                self._queue.finish(writer, [request])
                text = "%s has committed to %s, and not to %d"
                title = escaped(request.payload["destination"])
                LOGGER.info(text, title, counted(len(done), "object"), len(again))


def _new_uid() -> str:
    """Return the beginning of the Transaction UIDs of a request, which nobody can guess."""
    return f"2.25.{secrets.randbits(96)}"


def _key_of(transaction_uid: str) -> str:
    """Return the key of the request to which a Transaction UID belongs."""
    return ".".join(transaction_uid.split(".")[:3])
