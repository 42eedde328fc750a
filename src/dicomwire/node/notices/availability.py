"""The archive as SCU of Instance Availability Notification (PS3.4 Annex R)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicomwire import Association, build_context
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.notices.facts import Described, Subject
from dicomwire.node.outgoing import Outgoing
from dicomwire.sop_class import InstanceAvailabilityNotification

_ONLINE = "ONLINE"
_DUPLICATE = 0x0111
_ACCEPTED = {0x0000, 0x0107, 0x0116, _DUPLICATE}
"""The statuses by which a receiver has the notification: success, the warnings of PS3.7 Section
10.1.5.1.8, and that it has it already."""


class Unconfirmed(OSError):
    """The receiver does not confirm a notification; the text says why."""


def notify(title: str, described: Described, index: IndexReader, outgoing: Outgoing) -> None:
    """Tell a destination that the instances of a series or study are available.

    Raises
    ------
    GiveUp, OSError
        When there is no association, or the receiver does not confirm the notification.
    """
    subject = described.subject
    contexts = [build_context(InstanceAvailabilityNotification)]
    with outgoing.associate(title, contexts) as association:
        for number, references in enumerate(subject.references(index)):
            dataset = _dataset(described.study, references, described.ae_title)
            _create(association, dataset, _uid_of(subject, title, number))


def _create(association: Association, dataset: Dataset, uid: str) -> None:
    try:
        status, _ = association.send_n_create(dataset, InstanceAvailabilityNotification, uid)
    except RuntimeError as error:  # it has ended meanwhile
        raise Unconfirmed(str(error)) from None
    except ValueError:
        text = "the receiver does not accept instance availability notifications"
        raise Unconfirmed(text) from None
    if "Status" not in status:
        raise Unconfirmed(f"the receiver does not answer: {association.failure}")
    if status.Status not in _ACCEPTED:
        raise Unconfirmed(f"the receiver answers with 0x{status.Status:04X}")


def _uid_of(subject: Subject, title: str, number: int) -> str:
    """Return the UID of a notification: the same one when it is repeated."""
    return generate_uid(entropy_srcs=[subject.id, title, str(number)])


def _dataset(study: str, references: Sequence[tuple[str, str, str]], ae_title: str) -> Dataset:
    """Return the attributes of a notification (PS3.4 Table R.3.2-1)."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.StudyInstanceUID = study
    dataset.ReferencedSeriesSequence = [
        _series(uid, list(own), ae_title)
        for uid, own in groupby(sorted(references), key=itemgetter(0))
    ]
    return dataset


def _series(uid: str, references: Sequence[tuple[str, str, str]], ae_title: str) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedSOPSequence = []
    for _, sop_class, sop_instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = sop_instance
        item.InstanceAvailability = _ONLINE
        item.RetrieveAETitle = ae_title
        series.ReferencedSOPSequence.append(item)
    return series
