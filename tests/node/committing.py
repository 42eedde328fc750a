"""Requestors of storage commitment: what tests of it share."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from running_node import LOCALHOST

from dicomwire import AE, Association, build_context, evt
from dicomwire.sop_class import StorageCommitmentPushModel as COMMITMENT
from dicomwire.sop_class import StorageCommitmentPushModelInstance as INSTANCE

WAIT = 20.0


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
    """

    def __init__(self, title: str = "TESTER") -> None:
        self.title = title
        self.status = 0x0000
        self.silent = threading.Event()
        self.silent.set()
        self._reports: Queue[tuple[Report, Association]] = Queue()

    @property
    def handlers(self) -> list[Any]:
        """For an association or a server."""
        return [(evt.EVT_N_EVENT_REPORT, self._take)]

    def associate(self, address: tuple[str, int], **options: Any) -> Association:
        """Return an association for requests."""
        contexts = [build_context(COMMITMENT)]
        handlers = options.pop("evt_handlers", self.handlers)
        assoc = AE(self.title).associate(*address, contexts, evt_handlers=handlers, **options)
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
        return self._reports.get(timeout=WAIT)

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
