import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, DisplaySystemPresentationContexts, evt
from pynetdicom.sop_class import DisplaySystemInstance


def handle_get(event):
    request = event.request
    if request.RequestedSOPInstanceUID != DisplaySystemInstance:
        status = Dataset()
        status.Status = 0x0117
        status.ErrorComment = "unknown display system"
        return status, None
    ds = Dataset()
    for tag in request.AttributeIdentifierList:
        if tag == 0x00080070:
            ds.Manufacturer = "Monitors"
    return 0x0000, ds


ae = AE()
ae.supported_contexts = DisplaySystemPresentationContexts
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_N_GET, handle_get)])
