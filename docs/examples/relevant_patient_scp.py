"""Returns relevant information about a patient (Relevant Patient Information Query)."""

from collections.abc import Iterator

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import GeneralRelevantPatientInformationQuery


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def information_about(patient_id: str) -> Dataset:
    """Return a patient's allergies, by template 9007 of PS3.16."""
    allergy = Dataset()
    allergy.RelationshipType = "CONTAINS"
    allergy.ValueType = "CODE"
    allergy.ConceptNameCodeSequence = [code("121027", "DCM", "Allergy")]
    allergy.ConceptCodeSequence = [code("300913006", "SCT", "Shellfish allergy")]
    found = Dataset()
    found.PatientName = "Doe^Jane"
    found.PatientID = patient_id
    found.PatientBirthDate = "19700401"
    found.PatientSex = "F"
    found.ObservationDateTime = "20250402090000"
    found.ValueType = "CONTAINER"
    found.ConceptNameCodeSequence = [code("111516", "DCM", "Relevant Patient Information")]
    found.ContentSequence = [allergy]
    return found


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """Yield the match, if any; the library sends only the first."""
    if event.identifier.ContentTemplateSequence[0].TemplateIdentifier != "9007":
        yield 0xC200, None  # Requested template is not supported
    elif event.identifier.PatientID == "1001":
        yield 0xFF00, information_about("1001")


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("RELEVANTSCP")
    ae.add_supported_context(GeneralRelevantPatientInformationQuery)
    handlers = [(evt.EVT_C_FIND, handle_find)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
