import sys

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep as MPPS
from pynetdicom.status import code_to_category

uid = generate_uid()
begin = Dataset()
begin.PerformedProcedureStepStatus = "IN PROGRESS"
begin.PerformedStationAETitle = "CTSCANNER"
end = Dataset()
end.PerformedProcedureStepStatus = "COMPLETED"

ae = AE()
ae.add_requested_context(MPPS)
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
for answer in (
    assoc.send_n_create(begin, MPPS, uid),
    assoc.send_n_create(begin, MPPS, uid),
    assoc.send_n_set(end, MPPS, uid),
    assoc.send_n_set(end, MPPS, "1.2.3"),
):
    status, attributes = answer
    step = attributes.PerformedProcedureStepStatus if attributes else None
    print(f"0x{status.Status:04X}", code_to_category(status.Status), step)
assoc.release()
