"""Prints what a qrscp answers, whose port is given, as JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityWorklistInformationFind,
    UnifiedProcedureStepPull,
)
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PATIENT_ROOT,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as STUDY_ROOT,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet as GET,
)

PATIENT, STUDY, SERIES, IMAGE = (
    {"QueryRetrieveLevel": level} for level in ("PATIENT", "STUDY", "SERIES", "IMAGE")
)
FINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "an image": (
        STUDY_ROOT,
        {**IMAGE, "StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1", "SOPInstanceUID": ""},
    ),
    "a study of one image": (STUDY_ROOT, {**STUDY, "StudyInstanceUID": "1.2", "PatientName": ""}),
    "a study of two images": (STUDY_ROOT, {**STUDY, "StudyInstanceUID": "1.1"}),
    "no study": (STUDY_ROOT, {**STUDY, "StudyInstanceUID": "1.9"}),
    "a wildcard in a name": (STUDY_ROOT, {**STUDY, "PatientName": "An*"}),
    "a range of dates": (STUDY_ROOT, {**STUDY, "StudyDate": "20210101-", "StudyInstanceUID": ""}),
    "a range of dates without ends": (STUDY_ROOT, {**STUDY, "StudyDate": "-"}),
    "an asterisk in a date": (STUDY_ROOT, {**STUDY, "StudyDate": "*"}),
    "an asterisk in a UID": (STUDY_ROOT, {**STUDY, "StudyInstanceUID": "*"}),
    "a list of UIDs": (STUDY_ROOT, {**STUDY, "StudyInstanceUID": ["1.1", "1.2"]}),
    "a key that its database does not have": (
        STUDY_ROOT,
        {**STUDY, "StudyInstanceUID": "1.2", "StudyDescription": ""},
    ),
    "a key of a level below": (PATIENT_ROOT, {**PATIENT, "PatientID": "B", "StudyInstanceUID": ""}),
    "no keys": (PATIENT_ROOT, PATIENT),
    "no unique key above": (STUDY_ROOT, {**SERIES, "SeriesInstanceUID": ""}),
    "no level": (STUDY_ROOT, {"StudyInstanceUID": ""}),
    "a level that the model does not have": (STUDY_ROOT, {**PATIENT, "PatientID": ""}),
    "a worklist": (ModalityWorklistInformationFind, {"PatientID": ""}),
    "procedure steps": (UnifiedProcedureStepPull, {"PatientID": ""}),
}
GETS: dict[str, dict[str, Any]] = {
    "a study": {**STUDY, "StudyInstanceUID": "1.1"},
    "a list of studies": {**STUDY, "StudyInstanceUID": ["1.1", "1.2"]},
    "no study": {**STUDY, "StudyInstanceUID": "1.9"},
    "an empty unique key": {**STUDY, "StudyInstanceUID": ""},
    "no unique key": {**STUDY, "PatientID": "A"},
    "no unique key above": {**SERIES, "SeriesInstanceUID": "1.1.1"},
    "no level": {"StudyInstanceUID": "1.1"},
}


def dataset(elements: dict[str, Any]) -> Dataset:
    """Return a dataset."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def image(number: int, patient: str, name: str, study: str, date: str) -> Dataset:
    """Return an object to store."""
    ds = dataset(
        {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": f"1.2.3.{number}",
            "PatientID": patient,
            "PatientName": name,
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.1",
            "StudyDate": date,
            "StudyDescription": "x",
        }
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


IMAGES = (
    image(1, "A", "Anders^Ida", "1.1", "20200102"),
    image(2, "A", "Anders^Ida", "1.1", "20200102"),
    image(3, "B", "Berg^Olaf", "1.2", "20210304"),
)


def found(assoc: Any, model: str, keys: dict[str, Any]) -> Any:
    """Return what a C-FIND is answered with."""
    try:
        answers = list(assoc.send_c_find(dataset(keys), model))
    except ValueError as error:
        return type(error).__name__
    return sorted(
        str([status.get("Status"), ds and {each.keyword: str(each.value) for each in ds}])
        for status, ds in answers
    )


def got(assoc: Any, keys: dict[str, Any], received: list[str]) -> Any:
    """Return what a C-GET ends with, and what it brought."""
    received.clear()
    final, _ = list(assoc.send_c_get(dataset(keys), GET))[-1]
    return [final.get("Status"), sorted(received)]


def walk(port: int) -> dict[str, Any]:
    """Return what each request is answered with."""
    received: list[str] = []

    def store(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    ae = AE()
    models = (PATIENT_ROOT, STUDY_ROOT, GET, ModalityWorklistInformationFind)
    for uid in (CTImageStorage, UnifiedProcedureStepPull, *models):
        ae.add_requested_context(uid)
    assoc = ae.associate("127.0.0.1", port)
    result: dict[str, Any] = {
        f"qrscp, C-STORE: {each.SOPInstanceUID}": assoc.send_c_store(each).Status for each in IMAGES
    }
    assoc.release()
    roles = [build_role(CTImageStorage, scp_role=True)]
    handlers = [(evt.EVT_C_STORE, store)]
    assoc = ae.associate("127.0.0.1", port, ext_neg=roles, evt_handlers=handlers)
    for name, (model, keys) in FINDS.items():
        result[f"qrscp, C-FIND: {name}"] = found(assoc, model, keys)
    for name, keys in GETS.items():
        result[f"qrscp, C-GET: {name}"] = got(assoc, keys, received)
    assoc.release()
    return result


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(walk(int(sys.argv[1]))))
