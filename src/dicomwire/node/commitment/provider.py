"""The archive as SCP of storage commitment (PS3.4 Section J.3).

A request is a task when it is answered. The process that received it checks the objects, and
reports on the same association, if that still exists then. Otherwise any process goes on with the
task, and reports on a new association.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from pydicom.dataset import Dataset
from sqlalchemy import delete, func, select

from dicomwire import Association, Settings, build_context, build_role, evt
from dicomwire.data.codec import DatasetError, message_elements
from dicomwire.logs import escaped
from dicomwire.node.commitment.references import SYNTAXES, Malformed
from dicomwire.node.commitment.transactions import (
    MOST_REFERENCES,
    TooMany,
    Transaction,
    Undelivered,
)
from dicomwire.node.commitment.verification import Verifier
from dicomwire.node.failures import log_unexpected
from dicomwire.node.index.database import IndexFailure, reason_of
from dicomwire.node.index.schema import task as task_table
from dicomwire.node.index.writer import Conflict, Writer
from dicomwire.node.outgoing import Outgoing
from dicomwire.node.statuses import (
    DUPLICATE_TRANSACTION,
    INVALID_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    failure,
)
from dicomwire.node.tasks.queue import LEASE, NewTask, Queue, Task, name_in_process
from dicomwire.node.tasks.threads import Kind, Unfinished
from dicomwire.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

LOGGER = logging.getLogger("dicomwire.node")

KIND = "commitment"
_SUCCESS = 0x0000
_REQUEST_COMMITMENT = 1
"""The only action type (PS3.4 Section J.3.2)."""
_STEP = 2.0
"""Seconds for which the objects of one transaction are checked before others have their turn. When
the node stops, it waits for one step."""
_LONGEST_CLOSE = 5 * _STEP
"""Seconds to wait for the end of the threads, of which each is in its last step."""
_MOST_OPEN = 1000
"""The most transactions without a confirmed report; those that can be reported end at once. With
100,000 references each they take some 2 GB in the index. Requestors without an address may leave
many reports that nobody can deliver: of these, the oldest ones make room."""
_MOST_CONFLICTS = 10
"""How often a transaction of the index is repeated that another process has disturbed."""
_LONGEST_REPORT = 3600.0
"""Seconds to wait for the confirmation of a report, if the configuration has no limit."""
_LIMITS = replace(
    Settings().limits,
    dataset_items=MOST_REFERENCES + 1000,
    dataset_elements=4 * (MOST_REFERENCES + 1000),
)
"""The limits for a request: an item has two elements, and may have others beside them."""


class Provider:
    """Answers requests for storage commitment, in one process of a node.

    Parameters
    ----------
    queue : Queue
        The tasks of the node.
    verifier : Verifier
    outgoing : Outgoing
    """

    def __init__(self, queue: Queue, verifier: Verifier, outgoing: Outgoing) -> None:
        self._queue = queue
        # A lease of its own: the heartbeat of the node would keep that of a worker that has died.
        self._own = Queue(queue.index, name_in_process(queue.owner), queue.clock)
        self._own.on_added = lambda kinds: queue.on_added(kinds)
        self._verifier = verifier
        self._outgoing = outgoing
        self._turn = threading.Lock()
        """Held while objects are checked: the transactions of this process take turns."""
        self._lock = threading.Lock()  # guards _open and _threads; taken alone
        self._open: dict[Association, deque[Task]] = {}
        """The transactions to be reported on each association; one thread serves each. They have no
        payloads: of those that wait, there may be many large ones."""
        self._threads: set[threading.Thread] = set()
        self._is_closing = False

    def close(self) -> None:
        """Let others go on with all transactions; wait until this process has put them back."""
        self._is_closing = True
        with self._lock:
            threads = list(self._threads)
        deadline = time.monotonic() + _LONGEST_CLOSE
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))

    # --- Requests ---

    def request(self, event: evt.Event) -> tuple[int | Dataset, None]:
        """Return the answer to an N-ACTION; when it is success, the request is durable."""
        requestor = event.assoc.requestor.ae_title.strip()
        if event.request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
            return failure(NO_SUCH_INSTANCE, "only the well-known instance exists"), None
        if event.action_type != _REQUEST_COMMITMENT:
            return failure(NO_SUCH_ACTION, "the only action type is 1"), None
        try:
            syntax = event.context.transfer_syntax
            elements = message_elements(event.payload or b"", syntax, _LIMITS)
            transaction = Transaction.requested(requestor, elements)
            task = self._begin(transaction)
        except TooMany as error:
            return _refused(RESOURCE_LIMITATION, str(error)), None
        except (DatasetError, Malformed) as error:
            return _refused(INVALID_ARGUMENT, str(error)), None
        except IndexFailure as error:
            LOGGER.error("The index cannot be written: %s", reason_of(error))
            return failure(PROCESSING_FAILURE, "the index cannot be written"), None
        if task is not None:
            self._follow(event.assoc, task)
        return _SUCCESS, None

    def _begin(self, transaction: Transaction) -> Task | None:
        """Add the task of a request; return it, or None if a process is about to report anyway."""
        for _ in range(_MOST_CONFLICTS):
            try:
                with self._own.index.writing() as writer:
                    return self._begin_in(writer, transaction)
            except Conflict as error:
                LOGGER.debug("A transaction is repeated: %s", error)
        with self._own.index.writing() as writer:
            return self._begin_in(writer, transaction)

    def _begin_in(self, writer: Writer, transaction: Transaction) -> Task | None:
        index = self._own.index
        index.database.lock(writer.connection, [f"{KIND} {transaction.key}"])
        known = self._own.of_key(writer, KIND, transaction.key)
        for each in known:
            if each.payload["digest"] == transaction.digest:
                LOGGER.info("Commitment %s: requested again", transaction.described)
                return each if self._own.claim(writer, each) else None
        self._make_room(writer)
        if known:
            LOGGER.warning("Commitment %s: the UID is in use", transaction.described)
            transaction.fail(DUPLICATE_TRANSACTION)
        else:
            LOGGER.info("Commitment %s", transaction.described)
        return self._own.begin(writer, NewTask(KIND, transaction.payload, transaction.key))

    def _make_room(self, writer: Writer) -> None:
        """Drop the oldest report that was given up, if there are too many; else raise TooMany."""
        number = select(func.count()).where(task_table.c.kind == KIND)
        if writer.connection.execute(number).scalar_one() < _MOST_OPEN:
            return
        given_up = select(task_table.c.id, task_table.c.key).where(
            task_table.c.kind == KIND, task_table.c.due.is_(None)
        )
        oldest = writer.connection.execute(given_up.order_by(task_table.c.id).limit(1)).first()
        if oldest is None:
            raise TooMany(f"{_MOST_OPEN} transactions are open")
        writer.connection.execute(delete(task_table).where(task_table.c.id == oldest.id))
        LOGGER.error("Commitment %s: its report is dropped, since there are too many", oldest.key)

    # --- Reports on the same association ---

    def _follow(self, association: Association, task: Task) -> None:
        """Let a thread report on the association, after the N-ACTION is answered."""
        task = task._replace(payload={})
        with self._lock:
            waiting = self._open.get(association)
            if waiting is not None:
                waiting.append(task)
                return
            self._open[association] = deque([task])
            thread = threading.Thread(
                target=self._serve, args=(association,), name="commitment", daemon=True
            )
            self._threads.add(thread)
            thread.start()

    def _serve(self, association: Association) -> None:
        while True:
            with self._lock:
                waiting = self._open[association]
                if not waiting:
                    del self._open[association]
                    self._threads.discard(threading.current_thread())
                    return
                task = waiting.popleft()
            try:
                self._answer(association, task)
            except (IndexFailure, OSError) as error:
                # When the lease ends, another process goes on.
                text = "A storage commitment cannot be answered now: %s"
                LOGGER.error(text, escaped(reason_of(error)))
            except Exception as error:  # whatever it is, other transactions must go on
                log_unexpected(LOGGER, error, "A storage commitment cannot be answered now")

    def _answer(self, association: Association, task: Task) -> None:
        """Report on the association if possible; else let any process go on with the task."""
        index = self._own.index
        with index.writing() as writer:
            found = self._own.of_key(writer, KIND, task.key)
            payloads = [each.payload for each in found if each.id == task.id]
            # If it had to wait for long, another process may have taken or ended it.
            if not payloads or not self._own.hold(writer, task):
                return
        transaction = Transaction.of(payloads[0])
        try:
            if self._report_on(association, task, transaction):
                return
        except Undelivered as error:
            text = "Commitment %s: it is reported on a new association: %s"
            LOGGER.info(text, transaction.described, escaped(str(error)))
        except OSError as error:
            text = "Commitment %s: it cannot be verified now: %s"
            LOGGER.warning(text, transaction.described, escaped(str(error)))
        with index.writing() as writer:
            self._own.put_back(writer, task, transaction.payload)

    def _report_on(self, association: Association, task: Task, transaction: Transaction) -> bool:
        """Check the objects and report; return False if the association is over before that."""
        index = self._own.index
        while self._may_report(association):
            if not transaction.is_verified:
                with self._turn:
                    transaction.verify(self._verifier, _STEP)
                with index.writing() as writer:
                    self._own.hold(writer, task)
                continue
            with index.writing() as writer:
                if not self._own.hold(writer, task, self._longest_report()):
                    return True  # another process has taken it, and reports
            transaction.send_report(association)
            with index.writing() as writer:
                self._own.finish(writer, [task])
            _log_delivered(transaction)
            return True
        return False

    def _may_report(self, association: Association) -> bool:
        return association.is_established and not self._is_closing

    def _longest_report(self) -> float:
        """Return the seconds after which the report has been confirmed, or has failed."""
        return LEASE + min(self._outgoing.configuration.dimse_timeout, _LONGEST_REPORT)

    # --- Reports on new associations ---

    def kind(self) -> Kind:
        """Return the kind of task by which any process reports."""
        return Kind(KIND, self._run, threads=2)

    def _run(self, tasks: Sequence[Task]) -> None:
        (task,) = tasks
        transaction = Transaction.of(task.payload)
        if not transaction.is_verified:
            transaction.verify(self._verifier, _STEP)
            raise Unfinished(transaction.payload)
        self._report(transaction)

    def _report(self, transaction: Transaction) -> None:
        contexts = [build_context(StorageCommitmentPushModel, SYNTAXES)]
        # The requestor of this association is the SCP (PS3.4 Section J.3.3).
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        with self._outgoing.associate(
            transaction.requestor, contexts, ext_neg=[role]
        ) as association:
            transaction.send_report(association)
        _log_delivered(transaction)


def _log_delivered(transaction: Transaction) -> None:
    number = transaction.failures
    LOGGER.info("Commitment %s: reported, %d failed", transaction.described, number)


def _refused(code: int, reason: str) -> Dataset:
    LOGGER.warning("A storage commitment is answered with 0x%04X: %s", code, escaped(reason))
    return failure(code, reason)
