"""Asks an archive to send us a study (C-MOVE)."""

import sys
from pathlib import Path

from pydicom import Dataset

from dicomwire import AE, AllStoragePresentationContexts
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelMove


def fetch(
    study_uid: str,
    folder: str = "received",
    host: str = "127.0.0.1",
    port: int = 11112,
    own_port: int = 11113,
) -> Dataset:
    """Retrieve a study into `folder`; the archive must know our title, address and port."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_uid

    Path(folder).mkdir(exist_ok=True)
    ae = AE("MOVESCU")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    ae.supported_contexts = AllStoragePresentationContexts
    receiver = ae.start_server(("127.0.0.1", own_port), block=False, receive_to=folder)
    with receiver, ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        responses = assoc.send_c_move(
            identifier, "MOVESCU", StudyRootQueryRetrieveInformationModelMove
        )
        status = Dataset()
        for status, _ in responses:
            if "Status" not in status:
                raise SystemExit(f"No response: {assoc.failure}")
            print(status.get("NumberOfRemainingSuboperations", 0), "objects to come")
    return status


if __name__ == "__main__":
    outcome = fetch(sys.argv[1])
    print(outcome.get("NumberOfCompletedSuboperations", 0), "objects received")
