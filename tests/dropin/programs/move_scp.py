import sys

from instances import INSTANCES
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelMove

known = {"STORE_SCP": ("127.0.0.1", int(sys.argv[2]))}


def handle_move(event):
    if event.move_destination not in known:
        yield None, None
        return
    yield known[event.move_destination]
    yield len(INSTANCES)
    for ds in INSTANCES:
        yield 0xFF00, ds


ae = AE(ae_title="MOVE_SCP")
ae.requested_contexts = StoragePresentationContexts
ae.add_supported_context(PatientRootQueryRetrieveInformationModelMove)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_MOVE, handle_move)])
