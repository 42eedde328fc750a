import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import GeneralRelevantPatientInformationQuery as MODEL

ae = AE()
ae.add_requested_context(MODEL)
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
for patient_id in ("1234567", "7654321"):
    ds = Dataset()
    ds.PatientID = patient_id
    for status, identifier in assoc.send_c_find(ds, MODEL):
        print(f"C-FIND: 0x{status.Status:04X}", identifier.PatientName if identifier else None)
assoc.release()
