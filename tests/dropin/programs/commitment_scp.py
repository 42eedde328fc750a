import sys
import threading

from pydicom.dataset import Dataset
from pynetdicom import AE, StorageCommitmentPresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

stored = {"1.2.3.1"}


def report(transaction_uid, references, port):
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [
        item for item in references if item.ReferencedSOPInstanceUID in stored
    ]
    failed = [item for item in references if item.ReferencedSOPInstanceUID not in stored]
    for item in failed:
        item.FailureReason = 0x0112
    ds.FailedSOPSequence = failed
    assoc = ae.associate(
        "127.0.0.1",
        port,
        contexts=StorageCommitmentPresentationContexts,
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    event_type = 2 if failed else 1
    status, _ = assoc.send_n_event_report(
        ds, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    print(f"N-EVENT-REPORT: 0x{status.Status:04X}")
    assoc.release()


def handle_action(event, port):
    if event.action_type != 1:
        return 0x0123, None
    ds = event.action_information
    threading.Thread(
        target=report, args=(ds.TransactionUID, list(ds.ReferencedSOPSequence), port)
    ).start()
    return 0x0000, None


ae = AE(ae_title="ARCHIVE")
ae.supported_contexts = StorageCommitmentPresentationContexts
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])),
    evt_handlers=[(evt.EVT_N_ACTION, handle_action, [int(sys.argv[2])])],
)
