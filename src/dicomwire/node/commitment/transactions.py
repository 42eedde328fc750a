"""A transaction of storage commitment that others request: its state, and its report.

`provider` receives the requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydicom.dataset import Dataset

from dicomwire import Association
from dicomwire.data.scanner import Elements
from dicomwire.logs import counted, escaped
from dicomwire.node.commitment.references import (
    TRANSACTION_UID,
    Failure,
    Malformed,
    Reference,
    dataset_of,
    pack,
    references_in,
    syntax_of,
    uid_in,
    unpack,
)
from dicomwire.node.commitment.verification import Verifier
from dicomwire.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

MOST_REFERENCES = 100_000
"""The most references of a request. One of that many takes some 2 MB in the index."""
_SUCCESS, _FAILURES = 1, 2
"""The event types of a report: all objects are committed, or some are not (PS3.4 J.3.3.1)."""


class TooMany(Malformed):
    """A request has more references than the archive takes."""


class Undelivered(OSError):
    """The requestor did not take a report; the text says why."""


class Transaction:
    """A transaction.

    Attributes
    ----------
    requestor : str
        The AE title that has requested it, and to which the report goes.
    uid : str
        The Transaction UID.
    digest : str
        Two requests with the same Transaction UID and digest are the same request.
    """

    def __init__(
        self,
        requestor: str,
        uid: str,
        references: Sequence[Reference],
        done: int = 0,
        failed: Mapping[int, int] | None = None,
    ) -> None:
        self.requestor = requestor
        self.uid = uid
        self._packed = pack(references)
        self.digest = hashlib.sha256(self._packed.encode()).hexdigest()
        self._references = references
        self._done = done
        self._failed = dict(failed or {})

    @classmethod
    def requested(cls, requestor: str, elements: Elements) -> Self:
        """Return the transaction of a request; Malformed if that is invalid."""
        uid = uid_in(elements, TRANSACTION_UID)
        references = references_in(elements)
        if not references:
            raise Malformed("the request refers to no object")
        if len(references) > MOST_REFERENCES:
            raise TooMany(f"the request has {len(references)} references")
        return cls(requestor, uid, references)

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Self:
        """Return the transaction of a task."""
        return cls(
            payload["requestor"],
            payload["transaction"],
            unpack(payload["references"]),
            payload["done"],
            dict(payload["failed"]),
        )

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of its task."""
        return {
            "requestor": self.requestor,
            "transaction": self.uid,
            "objects": len(self._references),
            "done": self._done,
            "digest": self.digest,
            "failed": list(self._failed.items()),
            "references": self._packed,
        }

    @property
    def key(self) -> str:
        """The key of its task; two requestors may by mistake use the same UID."""
        return f"{self.uid} {escaped(self.requestor)}"

    @property
    def is_verified(self) -> bool:
        """Whether it is known of all objects whether the archive has them."""
        return self._done == len(self._references)

    @property
    def described(self) -> str:
        """The transaction in words, for the log."""
        objects = counted(len(self._references), "object")
        return f"{self.uid} of {escaped(self.requestor)}: {objects}"

    @property
    def failures(self) -> int:
        """How many references have failed."""
        return len(self._failed)

    def verify(self, verifier: Verifier, seconds: float) -> None:
        """Go on checking its objects, for about `seconds`."""
        self._done, failed = verifier.verify(self._references, self._done, seconds)
        self._failed.update(failed)

    def fail(self, reason: int) -> None:
        """Let all references fail."""
        self._done = len(self._references)
        self._failed = dict.fromkeys(range(self._done), reason)

    def report(self, transfer_syntax: str) -> tuple[int, Dataset]:
        """Return the event type and the dataset of its report."""
        failed = self._failed
        committed = (each for at, each in enumerate(self._references) if at not in failed)
        failures = (Failure(self._references[at], reason) for at, reason in sorted(failed.items()))
        event_type = _FAILURES if failed else _SUCCESS
        return event_type, dataset_of(self.uid, committed, failures, transfer_syntax)

    def send_report(self, association: Association) -> None:
        """Send its report; Undelivered if the requestor does not confirm it."""
        uids = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        syntax = syntax_of(association)
        if syntax is None:
            raise Undelivered("the requestor does not accept storage commitment")
        event_type, dataset = self.report(syntax)
        try:
            status, _ = association.send_n_event_report(dataset, event_type, *uids)
        except RuntimeError as error:  # it has ended meanwhile
            raise Undelivered(str(error)) from None
        if "Status" not in status:
            raise Undelivered(f"the requestor does not answer: {association.failure}")
        if status.Status:
            raise Undelivered(f"the requestor answers the report with 0x{status.Status:04X}")
