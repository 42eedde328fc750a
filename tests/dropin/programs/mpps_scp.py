import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep

steps = {}


def handle_create(event):
    request = event.request
    if request.AffectedSOPInstanceUID is None:
        return 0x0106, None
    if request.AffectedSOPInstanceUID in steps:
        return 0x0111, None
    attributes = event.attribute_list
    if attributes.get("PerformedProcedureStepStatus") != "IN PROGRESS":
        return 0x0106, None
    ds = Dataset()
    ds.SOPClassUID = ModalityPerformedProcedureStep
    ds.SOPInstanceUID = request.AffectedSOPInstanceUID
    ds.update(attributes)
    steps[ds.SOPInstanceUID] = ds
    return 0x0000, ds


def handle_set(event):
    request = event.request
    if request.RequestedSOPInstanceUID not in steps:
        return 0x0112, None
    steps[request.RequestedSOPInstanceUID].update(event.modification_list)
    return 0x0000, steps[request.RequestedSOPInstanceUID]


ae = AE()
ae.add_supported_context(ModalityPerformedProcedureStep)
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])),
    evt_handlers=[(evt.EVT_N_CREATE, handle_create), (evt.EVT_N_SET, handle_set)],
)
