"""Requestors of storage commitment: what tests of it share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import Queue
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from running_node import LOCALHOST

from dicomwire import AE, Association, Settings, build_context, build_role, evt
from dicomwire.sop_class import StorageCommitmentPushModel as COMMITMENT
from dicomwire.sop_class import StorageCommitmentPushModelInstance as INSTANCE

WAIT = 20.0
PATIENT = Settings(
    dimse_timeout=120.0,
    limits=replace(Settings().limits, dataset_elements=1_000_000),
)
"""The settings of a requestor that takes reports of 100,000 failures."""


class Report(NamedTuple):
    """A report that came.

    Attributes
    ----------
    committed : list of str
        SOP Instance UIDs.
    failed : dict of str to int
        Failure Reasons by SOP Instance UID.
    """

    event_type: int
    transaction: str
    committed: list[str]
    failed: dict[str, int]


def request_for(transaction: str, *uids: str, sop_class: str = CTImageStorage) -> Dataset:
    """Return the dataset of a request."""
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = [item(uid, sop_class) for uid in uids]
    return request


def item(uid: str, sop_class: str = CTImageStorage) -> Dataset:
    """Return a reference."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class
    reference.ReferencedSOPInstanceUID = uid
    return reference


class Requestor:
    """Requests commitment, and receives the reports.

    Attributes
    ----------
    status : int
        What to answer to reports.
    silent : threading.Event
        Reports are answered only when it is set, as it is at first.
    wait : float
        Seconds to wait for a report.
    """

    def __init__(self, title: str = "TESTER") -> None:
        self.title = title
        self.status = 0x0000
        self.silent = threading.Event()
        self.silent.set()
        self.wait = WAIT
        self._reports: Queue[tuple[Report, Association]] = Queue()

    @property
    def handlers(self) -> list[Any]:
        """For an association or a server."""
        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def associate(self, address: tuple[str, int], **options: Any) -> Association:
        """Return an association for requests."""
        contexts = [build_context(COMMITMENT)]
        handlers = options.pop("evt_handlers", self.handlers)
        assoc = AE(self.title, PATIENT).associate(
            *address, contexts, evt_handlers=handlers, **options
        )
        assert assoc.is_established, assoc.failure
        return assoc

    def request(self, assoc: Association, dataset: Dataset | None, action: int = 1) -> int:
        """Send a request; return the status."""
        status, _ = assoc.send_n_action(dataset, action, COMMITMENT, INSTANCE)
        return int(status.Status)

    def report(self) -> Report:
        """Return the next report."""
        return self.next()[0]

    def next(self) -> tuple[Report, Association]:
        """Return the next report, and the association on which it came."""
        return self._reports.get(timeout=self.wait)

    @property
    def has_report(self) -> bool:
        """Whether there is a report that nobody has taken."""
        return not self._reports.empty()

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        """Accept associations with the roles reversed; give the port."""
        ae = AE(self.title)
        ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        server = ae.start_server((LOCALHOST, port), block=False, evt_handlers=self.handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()

    def _take(self, event: evt.Event) -> tuple[int, None]:
        information = event.event_information
        report = Report(
            event.event_type,
            information.TransactionUID,
            [each.ReferencedSOPInstanceUID for each in _items(information, "Referenced")],
            {
                each.ReferencedSOPInstanceUID: each.FailureReason
                for each in _items(information, "Failed")
            },
        )
        self._reports.put((report, event.assoc))
        self.silent.wait(WAIT)
        return self.status, None


def _items(information: Dataset, which: str) -> Sequence[Dataset]:
    return information.get(f"{which}SOPSequence") or []


class Committer:
    """An archive of somebody else, which is asked to commit to objects.

    Attributes
    ----------
    where : str
        Where it reports: on the "same" association, on a "new" one, or "never".
    node : tuple of str and int
        The address for new associations.
    missing : set of str
        The SOP Instance UIDs that it does not commit to.
    status : int
        What to answer to requests.
    stored : list of str
        The SOP Instance UIDs of the objects that it has got.
    """

    def __init__(self, where: str = "same") -> None:
        self.where = where
        self.node = ("", 0)
        self.missing: set[str] = set()
        self.status = 0x0000
        self.stored: list[str] = []
        self._requests: Queue[tuple[str, list[str]]] = Queue()
        self._threads: list[threading.Thread] = []

    def request(self) -> tuple[str, list[str]]:
        """Return Transaction UID and SOP Instance UIDs of the next request."""
        return self._requests.get(timeout=WAIT)

    @contextmanager
    def listening(self, *storage: str) -> Iterator[int]:
        """Accept requests, and objects of these SOP classes; give the port."""
        ae = AE("BIG")
        for sop_class in (COMMITMENT, *storage):
            ae.add_supported_context(sop_class)
        handlers = [(evt.EVT_N_ACTION, self._take), (evt.EVT_C_STORE, self._store)]
        server = ae.start_server((LOCALHOST, 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            for thread in self._threads:
                thread.join(WAIT)
            ae.shutdown()

    def report_of(self, request: Dataset) -> tuple[int, Dataset]:
        """Return event type and dataset of the report."""
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        items = list(request.ReferencedSOPSequence)
        failed = [each for each in items if each.ReferencedSOPInstanceUID in self.missing]
        if len(failed) < len(items):
            report.ReferencedSOPSequence = [each for each in items if each not in failed]
        for each in failed:
            each.FailureReason = 0x0112
            report.FailedSOPSequence = failed
        return (2 if failed else 1), report

    def _take(self, event: evt.Event) -> tuple[int, None]:
        request = event.action_information
        uids = [each.ReferencedSOPInstanceUID for each in request.ReferencedSOPSequence]
        self._requests.put((request.TransactionUID, uids))
        if self.where != "never" and not self.status:
            thread = threading.Thread(target=self._report, args=(event.assoc, request))
            self._threads.append(thread)
            thread.start()
        return self.status, None

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _report(self, assoc: Association, request: Dataset) -> None:
        event_type, report = self.report_of(request)
        if self.where == "same":
            assoc.send_n_event_report(report, event_type, COMMITMENT, INSTANCE)
            return
        assert self.report_on_new_association(event_type, report) == 0x0000

    def report_on_new_association(self, event_type: int, report: Dataset) -> int:
        """Report to the node, with the roles reversed; return the status."""
        role = build_role(COMMITMENT, scp_role=True)
        with AE("BIG").associate(*self.node, [build_context(COMMITMENT)], ext_neg=[role]) as assoc:
            assert assoc.is_established, assoc.failure
            status, _ = assoc.send_n_event_report(report, event_type, COMMITMENT, INSTANCE)
            return int(status.Status)
