"""Sends the DICOM files in a folder to the requested destination (C-MOVE)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from dicomwire import AE, AssociationServer, PresentationContext, build_context, evt
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelMove

DESTINATIONS = {"MOVESCU": ("127.0.0.1", 11113)}  # addresses by AE title


def contexts_for(paths: list[Path]) -> list[PresentationContext]:
    """Return a presentation context for each SOP class and transfer syntax of the files."""
    metas = [read_file_meta_info(path) for path in paths]
    pairs = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]


def handle_move(event: evt.Event, folder: Path) -> Iterator[Any]:
    """Yield the destination, the number of objects, then each with a pending status."""
    address = DESTINATIONS.get(event.move_destination)
    if address is None:
        yield None, None  # answered with 0xA801, Move destination unknown
        return
    study = event.identifier.get("StudyInstanceUID")
    paths = [
        path
        for path in folder.rglob("*.dcm")
        if dcmread(path, stop_before_pixels=True).get("StudyInstanceUID") == study
    ]
    yield *address, {"contexts": contexts_for(paths)}
    yield len(paths)
    for path in paths:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        yield 0xFF00, path


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    ae = AE("MOVESCP")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    handlers = [(evt.EVT_C_MOVE, handle_move, [Path(folder)])]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
