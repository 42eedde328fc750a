import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as MODEL

ae = AE()
ae.add_requested_context(MODEL)
ds = Dataset()
ds.QueryRetrieveLevel = "PATIENT"
ds.PatientName = "B*"
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
for status, identifier in assoc.send_c_find(ds, MODEL):
    if status:
        print(f"C-FIND: 0x{status.Status:04X}", identifier.PatientName if identifier else None)
del ds.QueryRetrieveLevel
print([f"0x{status.Status:04X}" for status, _ in assoc.send_c_find(ds, MODEL, msg_id=2)])
assoc.release()
