"""A node that runs, and programs that use it: what tests of it share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends import configuration_of
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicomwire import AE, Association, build_context, build_role, evt
from dicomwire.node.objects.opening import open_objects
from dicomwire.node.server import Node
from dicomwire.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as FIND,
)
from dicomwire.sop_class import (
    StudyRootQueryRetrieveInformationModelGet as GET,
)
from dicomwire.sop_class import (
    StudyRootQueryRetrieveInformationModelMove as MOVE,
)

LOCALHOST = "127.0.0.1"
STUDY = "1.2.3"
Answers = list[tuple[Dataset, Dataset | None]]


def make_object(
    number: int = 1,
    sop_class: str = CTImageStorage,
    syntax: str = ExplicitVRLittleEndian,
    study: str = STUDY,
    **elements: Any,
) -> Dataset:
    """Return a small object; its UIDs tell its place."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = f"{study}.1.{number}"
    ds.StudyDate = "20250402"
    ds.Modality = "CT"
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "P1"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.1"
    ds.InstanceNumber = number
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def write(path: Path, ds: Dataset) -> Path:
    """Write a DICOM file."""
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def study_of(uid: str = STUDY, **keys: Any) -> Dataset:
    """Return an identifier of study level."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = uid
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


@contextmanager
def running(folder: Path, **keys: Any) -> Iterator[Node]:
    """Run a node on a free port; `keys` are those of its configuration."""
    with Node(configuration_of(folder, **keys)) as node:
        yield node


def stored_in(folder: Path) -> list[str]:
    """Return the names of all objects in the store of a node."""
    return [*open_objects(configuration_of(folder)).names()]


def associate(node: Node, *contexts: Any, title: str = "TESTER", **options: Any) -> Association:
    """Return an association; for the abstract syntaxes or contexts given."""
    proposed = [build_context(each) if isinstance(each, str) else each for each in contexts]
    return AE(title).associate(*node.address, proposed, **options)


def store(node: Node, *objects: Dataset | Path, title: str = "TESTER") -> list[int]:
    """Send objects, each in its transfer syntax; return the statuses."""
    contexts = {}
    for each in objects:
        assert isinstance(each, Dataset)
        pair = each.SOPClassUID, each.file_meta.TransferSyntaxUID
        contexts[pair] = build_context(*pair)
    with associate(node, *contexts.values(), title=title) as assoc:
        assert assoc.is_established, assoc.failure
        return [assoc.send_c_store(each).Status for each in objects]


def find(node: Node, identifier: Dataset, **options: Any) -> Answers:
    """Return all responses to a query."""
    with associate(node, FIND, **options) as assoc:
        assert assoc.is_established, assoc.failure
        return list(assoc.send_c_find(identifier, FIND))


class Receiver:
    """Receives objects, as the SCP of C-GET or as the destination of a C-MOVE.

    Attributes
    ----------
    objects : list of (str, str, bytes)
        Of each its UID, its transfer syntax, and the dataset as it came.
    originators : list of (str, int)
        Who asked for it by which C-MOVE.
    status : int
        What to answer.
    """

    def __init__(self) -> None:
        self.objects: list[tuple[str, str, bytes]] = []
        self.originators: list[tuple[str, int]] = []
        self.status = 0x0000

    @property
    def handlers(self) -> list[Any]:
        """For an association or a server."""
        return [(evt.EVT_C_STORE, self._take)]

    def _take(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        self.objects.append((uid, syntax, event.encoded_dataset(include_meta=False)))
        request = event.request
        title, number = (
            request.MoveOriginatorApplicationEntityTitle,
            request.MoveOriginatorMessageID,
        )
        self.originators.append((title, number))
        return self.status

    @contextmanager
    def listening(self, *contexts: Any) -> Iterator[int]:
        """Be a destination that supports `contexts`; give the port."""
        ae = AE("DESTINATION")
        supported = [build_context(each) if isinstance(each, str) else each for each in contexts]
        server = ae.start_server(
            (LOCALHOST, 0), block=False, contexts=supported, evt_handlers=self.handlers
        )
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()


def get(
    node: Node,
    receiver: Receiver,
    identifier: Dataset,
    *contexts: Any,
    ext_neg: tuple[Any, ...] | list[Any] = (),
    **options: Any,
) -> Answers:
    """Retrieve with C-GET on `contexts`; return all responses."""
    storage = [build_context(each) if isinstance(each, str) else each for each in contexts]
    roles = [build_role(uid, scp_role=True) for uid in {each.abstract_syntax for each in storage}]
    with associate(
        node,
        GET,
        *storage,
        ext_neg=[*roles, *ext_neg],
        evt_handlers=receiver.handlers,
        **options,
    ) as assoc:
        assert assoc.is_established, assoc.failure
        return list(assoc.send_c_get(identifier, GET))


def move(node: Node, identifier: Dataset, destination: str, **options: Any) -> Answers:
    """Have objects sent with C-MOVE; return all responses."""
    with associate(node, MOVE, **options) as assoc:
        assert assoc.is_established, assoc.failure
        return list(assoc.send_c_move(identifier, destination, MOVE))


def counts(status: Dataset) -> tuple[int, int, int]:
    """Return the final status and how many sub-operations succeeded and failed."""
    return (
        status.Status,
        status.get("NumberOfCompletedSuboperations"),
        status.get("NumberOfFailedSuboperations"),
    )
