"""Sends DICOM files."""

import sys
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicomwire import AE, PresentationContext, build_context
from dicomwire.status import code_to_category


def contexts_for(paths: list[Path]) -> list[PresentationContext]:
    """Return a presentation context for each SOP class and transfer syntax of the files."""
    metas = [read_file_meta_info(path) for path in paths]
    pairs = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]


def send(paths: list[Path], host: str = "127.0.0.1", port: int = 11112) -> dict[Path, str]:
    """Return the result for each file: "Success", "Warning", "Failure" or the error."""
    ae = AE("STORESCU")
    outcome = {}
    with ae.associate(host, port, contexts_for(paths)) as assoc:
        if not assoc.is_established:
            return dict.fromkeys(paths, f"no association: {assoc.failure}")
        for path in paths:
            try:
                status = assoc.send_c_store(path)
            except ValueError as error:  # for example: no context for this object
                outcome[path] = str(error)
                continue
            if "Status" not in status:  # the association has ended
                outcome |= dict.fromkeys(paths[len(outcome) :], f"not sent: {assoc.failure}")
                break
            outcome[path] = code_to_category(status.Status)
    return outcome


if __name__ == "__main__":
    for path, what in send([Path(name) for name in sys.argv[1:]]).items():
        print(f"{path}: {what}")
