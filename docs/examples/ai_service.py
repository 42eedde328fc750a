"""Receives studies, runs a model on each, and sends the result back as a structured report.

Set up the sender (an archive or a modality) to send to this AE, and this program to send reports to
the archive.
"""

import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicomwire import AE, AllStoragePresentationContexts, AssociationServer, Settings, evt
from dicomwire.sop_class import BasicTextSRStorage, Verification


def infer(paths: list[Path]) -> str:
    """Put your model here; this one only looks at the rows and columns of the images."""
    sizes = {(ds.get("Rows"), ds.get("Columns")) for ds in map(dcmread, paths)}
    return f"{len(paths)} images of {len(sizes)} sizes: no finding"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def report(image: Dataset, text: str) -> Dataset:
    """Return a Basic Text SR with `text`, for the patient and the study of `image`."""
    finding = Dataset()
    finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
    finding.ConceptNameCodeSequence = [code("121071", "DCM", "Finding")]
    finding.TextValue = text

    sr = Dataset()
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        setattr(sr, keyword, image.get(keyword, ""))
    sr.SOPClassUID, sr.SOPInstanceUID = BasicTextSRStorage, generate_uid()
    sr.SeriesInstanceUID, sr.SeriesNumber, sr.InstanceNumber = generate_uid(), 1, 1
    sr.Modality = "SR"
    sr.ValueType, sr.ContinuityOfContent = "CONTAINER", "SEPARATE"
    sr.ConceptNameCodeSequence = [code("126000", "DCM", "Imaging Measurement Report")]
    sr.CompletionFlag, sr.VerificationFlag = "COMPLETE", "UNVERIFIED"
    sr.ContentSequence = [finding]
    sr.file_meta = FileMetaDataset()
    sr.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return sr


class Service:
    """Collects the objects of each association, and processes them when it ends.

    The C-STORE is answered when the file is complete; the model runs later, on its own thread, so
    that no sender waits for it.
    """

    def __init__(self, archive: tuple[str, int], model: Callable[[list[Path]], str]) -> None:
        self._archive = archive
        self._model = model
        self._received: dict[int, list[Path]] = {}
        self._work: queue.Queue[list[Path] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stored(self, event: evt.Event) -> int:
        """Note the file, which the library has written."""
        self._received.setdefault(id(event.assoc), []).append(event.dataset_path)
        return 0x0000

    def ended(self, event: evt.Event) -> None:
        """Process what the association stored, also if it was aborted."""
        paths = self._received.pop(id(event.assoc), [])
        if paths:
            self._work.put(paths)

    def _run(self) -> None:
        while (paths := self._work.get()) is not None:
            try:
                self._process(paths)
            except Exception as error:  # a study that the model cannot take must not end the thread
                print(f"Not processed: {error}")

    def _process(self, paths: list[Path]) -> None:
        """Run the model on each study, and send the report."""
        studies: dict[str, list[Path]] = {}
        for path in paths:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
            studies.setdefault(ds.StudyInstanceUID, []).append(path)
        for images in studies.values():
            text = self._model(images)
            self._send(report(dcmread(images[0], stop_before_pixels=True), text))
        for path in paths:
            path.unlink()

    def _send(self, sr: Dataset) -> None:
        ae = AE("AISERVICE")
        ae.add_requested_context(BasicTextSRStorage, ExplicitVRLittleEndian)
        with ae.associate(*self._archive) as assoc:
            if not assoc.is_established:
                raise RuntimeError(f"no association with the archive: {assoc.failure}")
            status = assoc.send_c_store(sr)
            if status.get("Status") != 0x0000:
                raise RuntimeError(f"the archive did not store the report: {status}")
            print("Sent a report on study", sr.StudyInstanceUID)

    def close(self) -> None:
        """Finish the work, and end the thread."""
        self._work.put(None)
        self._thread.join()


def serve(
    service: Service, folder: Path, port: int = 11112, block: bool = True
) -> AssociationServer | None:
    ae = AE("AISERVICE", Settings(maximum_associations=20))
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_STORE, service.stored),
        (evt.EVT_RELEASED, service.ended),
        (evt.EVT_ABORTED, service.ended),
    ]
    return ae.start_server(
        ("", port),
        block=block,
        evt_handlers=handlers,
        receive_to=folder,  # on all interfaces
    )


if __name__ == "__main__":
    own = Service(("127.0.0.1", 11113), infer)
    with tempfile.TemporaryDirectory() as received:
        serve(own, Path(received))
        own.close()
