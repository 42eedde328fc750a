"""Queries the studies of patients."""

from pydicom import Dataset

from dicomwire import AE
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelFind
from dicomwire.status import code_to_category


def find_studies(name: str, host: str = "127.0.0.1", port: int = 11112) -> list[Dataset]:
    """Return the studies of patients whose name matches, such as "Doe^*"."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.PatientName = name  # the value to match
    identifier.PatientID = ""  # empty: the archive returns these attributes
    identifier.StudyDate = ""
    identifier.StudyDescription = ""
    identifier.StudyInstanceUID = ""

    ae = AE("FINDSCU")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    studies = []
    status = Dataset()
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        responses = assoc.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
        for status, match in responses:
            if "Status" not in status:
                raise SystemExit(f"No response: {assoc.failure}")
            if match is not None:
                studies.append(match)
        # The last response has no match; its status says how the query ended.
        if code_to_category(status.Status) != "Success":
            print(f"The query ended with status 0x{status.Status:04X}")
    return studies


if __name__ == "__main__":
    for study in find_studies("*"):
        print(study.PatientID, study.StudyDate, study.StudyInstanceUID)
