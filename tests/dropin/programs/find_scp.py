import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind

PATIENTS = ["Anders^Ida", "Berg^Olaf", "Bruhn^Maria"]


def handle_find(event):
    syntax = event.context.transfer_syntax
    query = decode(event.request.Identifier, syntax.is_implicit_VR, syntax.is_little_endian)
    assert query == event.identifier
    if "QueryRetrieveLevel" not in query:
        yield 0xC000, None
        return
    for name in PATIENTS:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        if name.startswith(str(query.PatientName).rstrip("*")):
            identifier = Dataset()
            identifier.QueryRetrieveLevel = query.QueryRetrieveLevel
            identifier.PatientName = name
            yield 0xFF00, identifier


ae = AE()
ae.add_supported_context(PatientRootQueryRetrieveInformationModelFind)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_FIND, handle_find)])
