"""Queries relevant information about a patient (Relevant Patient Information Query)."""

from pydicom import Dataset

from dicomwire import AE
from dicomwire.sop_class import GeneralRelevantPatientInformationQuery


def ask(patient_id: str, host: str = "127.0.0.1", port: int = 11112) -> Dataset | None:
    """Return the information about the patient, or None."""
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "9007"
    identifier = Dataset()
    identifier.PatientName = ""
    identifier.PatientID = patient_id
    identifier.PatientBirthDate = ""
    identifier.PatientSex = ""
    identifier.ContentTemplateSequence = [template]

    ae = AE("RELEVANTSCU")
    ae.add_requested_context(GeneralRelevantPatientInformationQuery)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        model = GeneralRelevantPatientInformationQuery
        *matches, (status, _) = assoc.send_c_find(identifier, model)
        if status.get("Status") != 0x0000:
            raise SystemExit(f"The query failed: {status or assoc.failure}")
    return matches[0][1] if matches else None


if __name__ == "__main__":
    print(ask("1001"))
