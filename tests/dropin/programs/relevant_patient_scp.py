import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, RelevantPatientInformationPresentationContexts, evt


def handle_find(event):
    if event.identifier.PatientID != "1234567":
        return
    ds = Dataset()
    ds.PatientID = event.identifier.PatientID
    ds.PatientName = "Anders^Ida"
    yield 0xFF00, ds


ae = AE()
ae.supported_contexts = RelevantPatientInformationPresentationContexts
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_FIND, handle_find)])
