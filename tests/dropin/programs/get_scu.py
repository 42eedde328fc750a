import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelGet as MODEL


def handle_store(event):
    print("stored", event.dataset.SOPInstanceUID)
    return 0x0000


ae = AE()
ae.add_requested_context(MODEL)
ae.add_requested_context(CTImageStorage)
ds = Dataset()
ds.QueryRetrieveLevel = "PATIENT"
ds.PatientID = "1234567"
assoc = ae.associate(
    "127.0.0.1",
    int(sys.argv[1]),
    ext_neg=[build_role(CTImageStorage, scp_role=True)],
    evt_handlers=[(evt.EVT_C_STORE, handle_store)],
)
for status, _ in assoc.send_c_get(ds, MODEL):
    print(f"C-GET: 0x{status.Status:04X}", status.get("NumberOfCompletedSuboperations"))
assoc.release()
