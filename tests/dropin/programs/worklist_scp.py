import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, BasicWorklistManagementPresentationContexts, evt


def handle_find(event):
    (step,) = event.identifier.ScheduledProcedureStepSequence
    for name in ("Anders^Ida", "Berg^Olaf"):
        item = Dataset()
        item.PatientName = name
        scheduled = Dataset()
        scheduled.Modality = step.Modality
        scheduled.ScheduledStationAETitle = event.assoc.requestor.ae_title
        item.ScheduledProcedureStepSequence = [scheduled]
        yield 0xFF00, item


ae = AE()
ae.supported_contexts = BasicWorklistManagementPresentationContexts
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_FIND, handle_find)])
