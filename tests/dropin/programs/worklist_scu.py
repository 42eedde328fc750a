import sys

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

ae = AE("CTSCANNER")
ae.add_requested_context(ModalityWorklistInformationFind)
ds = Dataset()
ds.PatientName = "*"
ds.ScheduledProcedureStepSequence = [Dataset()]
ds.ScheduledProcedureStepSequence[0].Modality = "CT"
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
for status, item in assoc.send_c_find(ds, ModalityWorklistInformationFind):
    if status.Status in (0xFF00, 0xFF01):
        step = item.ScheduledProcedureStepSequence[0]
        print(item.PatientName, step.Modality, step.ScheduledStationAETitle)
    else:
        print(f"C-FIND: 0x{status.Status:04X}")
assoc.release()
