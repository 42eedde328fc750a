import sys

from instances import INSTANCES
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelGet


def handle_get(event):
    matching = [ds for ds in INSTANCES if ds.PatientID == event.identifier.PatientID]
    yield len(matching)
    for ds in matching:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        yield 0xFF00, ds


ae = AE()
for context in StoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, scu_role=True, scp_role=True)
ae.add_supported_context(PatientRootQueryRetrieveInformationModelGet)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_GET, handle_get)])
