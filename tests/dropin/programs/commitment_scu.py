import sys
import threading

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

reports = []
reported = threading.Event()
transaction_uid = generate_uid()


def handle_event_report(event):
    ds = event.event_information
    assert ds.TransactionUID == transaction_uid
    succeeded = [item.ReferencedSOPInstanceUID for item in ds.ReferencedSOPSequence]
    failed = [hex(item.FailureReason) for item in ds.get("FailedSOPSequence", [])]
    reports.append(f"event {event.event_type}: {succeeded} {failed}")
    return 0x0000, None


def handle_released(event):
    reported.set()


ae = AE(ae_title="MODALITY")
ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
server = ae.start_server(
    ("127.0.0.1", int(sys.argv[2])),
    block=False,
    evt_handlers=[
        (evt.EVT_N_EVENT_REPORT, handle_event_report),
        (evt.EVT_RELEASED, handle_released),
    ],
)
ae.add_requested_context(StorageCommitmentPushModel)
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
ds = Dataset()
ds.TransactionUID = transaction_uid
ds.ReferencedSOPSequence = []
for uid in ("1.2.3.1", "1.2.3.2"):
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = uid
    ds.ReferencedSOPSequence.append(item)
status, _ = assoc.send_n_action(
    ds, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
)
print(f"N-ACTION: 0x{status.Status:04X}")
assoc.release()
print(reported.wait(10))
print(*reports)
server.shutdown()
