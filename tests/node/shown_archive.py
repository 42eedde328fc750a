"""An archive to look at: a node that serves HTTP, with the objects of a few studies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from running_node import make_object, store
from web_client import Serving, serving

from dicomwire.node.server import Node
from dicomwire.node.tasks.queue import NewTask

HEAD, KNEE, HEART, REPORT = "1.2.3", "1.2.4", "1.2.5", "1.2.6"
"""Studies: a CT of ten images, an MR of another patient, a clip in colour, one without images."""
US_MULTI_FRAME, MR, SR = (
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.11",
)
SIDE = 64
"""Rows and columns of the images."""


def grey(number: int, **elements: Any) -> Dataset:
    """Return a slice of a CT, in which one square is brighter than the next one."""
    ds = make_object(number, **elements)
    ds.StudyTime, ds.StudyDescription, ds.AccessionNumber = "103000", "Head", "ACC77"
    ds.PatientBirthDate, ds.PatientSex = "19800131", "F"
    ds.SeriesNumber, ds.SeriesDescription = 1, "Axial"
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.WindowCenter, ds.WindowWidth = 40, 400
    ds.PixelSpacing = [0.5, 0.5]
    for keyword, value in elements.items():
        if keyword not in ("sop_class", "syntax", "study"):
            setattr(ds, keyword, value)
    squares = [[(row // 8 + column // 8 + number) % 8 * 128 + 700 for column in range(SIDE)]
               for row in range(SIDE)]  # fmt: skip
    ds.PixelData = b"".join(value.to_bytes(2, "little") for value in chain.from_iterable(squares))
    return ds


def clip() -> Dataset:
    """Return a multi-frame object in colour."""
    ds = make_object(1, US_MULTI_FRAME, study=HEART, Modality="US", PatientName="山田^太郎")
    ds.PatientName, ds.PatientID = "Yamada^Tarou=山田^太郎=やまだ^たろう", "Y2"
    ds.StudyDate, ds.StudyDescription, ds.NumberOfFrames = "20250301", "Heart", 4
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.FrameTime = 40
    ds.PixelData = b"".join(bytes([60 * frame, 0, 200]) * SIDE**2 for frame in range(4))
    return ds


def objects() -> Iterator[Dataset]:
    """Yield the objects of all studies."""
    yield from (grey(number) for number in range(1, 11))
    knee = {"study": KNEE, "sop_class": MR, "Modality": "MR", "PatientName": "Müller^Jörg"}
    for number in (1, 2):
        yield grey(number, PatientID="M1", StudyDescription="Knee", StudyDate="20240115",
                   AccessionNumber="ACC12", **knee)  # fmt: skip
    yield clip()
    report = make_object(1, SR, study=REPORT, Modality="SR", PatientName="", PatientID="N0")
    report.StudyDate, report.StudyDescription = "", "<b>Report & more</b>"
    yield report


@contextmanager
def shown(folder: Path, **keys: Any) -> Iterator[Serving]:
    """Run a node with these studies."""
    with serving(folder, **keys) as served:
        assert {*store(served.node, *objects())} == {0}
        yield served


def fail(node: Node, kind: str, *, is_dead: bool, reason: str = "refused") -> int:
    """Add a task that has failed; return its id."""
    queue = node.archive.queue
    with node.archive.index.writing() as writer:
        queue.add(writer, [NewTask(kind, {})])
    (task,) = queue.take(kind, 1)
    with node.archive.index.writing() as writer:
        queue.fail(writer, task, reason, None if is_dead else 1000.0)
    return task.id
