import sys
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt

folder = Path(sys.argv[2])


def handle_store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(folder / "decoded.dcm", enforce_file_format=True)
    (folder / "raw.dcm").write_bytes(event.encoded_dataset())
    (folder / "dataset").write_bytes(event.request.DataSet.getvalue())
    print(event.request.msg_type, event.request.AffectedSOPClassUID.name, event.request.Priority)
    return 0x0000


ae = AE()
ae.supported_contexts = AllStoragePresentationContexts
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])), block=True, evt_handlers=[(evt.EVT_C_STORE, handle_store)]
)
