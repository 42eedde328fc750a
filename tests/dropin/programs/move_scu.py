import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelMove as MODEL

stored = []


def handle_store(event):
    request = event.request
    stored.append((request.AffectedSOPInstanceUID, request.MoveOriginatorMessageID))
    return 0x0000


ae = AE(ae_title="STORE_SCP")
ae.add_requested_context(MODEL)
ae.supported_contexts = StoragePresentationContexts
scp = ae.start_server(
    ("127.0.0.1", int(sys.argv[2])), block=False, evt_handlers=[(evt.EVT_C_STORE, handle_store)]
)
ds = Dataset()
ds.QueryRetrieveLevel = "PATIENT"
ds.PatientID = "1234567"
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
for destination in ("STORE_SCP", "UNKNOWN"):
    for status, _ in assoc.send_c_move(ds, destination, MODEL, msg_id=7):
        print(f"C-MOVE: 0x{status.Status:04X}", status.get("NumberOfCompletedSuboperations"))
assoc.release()
scp.shutdown()
print(stored)
