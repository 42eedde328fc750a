import sys

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    Printer,
    PrinterInstance,
)


def handle_get(event):
    assert event.request.RequestedSOPClassUID == Printer
    assert event.request.RequestedSOPInstanceUID == PrinterInstance
    ds = Dataset()
    ds.PrinterStatus = "NORMAL"
    print("N-GET of", [str(tag) for tag in event.attribute_identifiers])
    return 0x0000, ds


def handle_create(event):
    ds = event.attribute_list
    uid = event.request.AffectedSOPInstanceUID
    if uid is None:
        ds.AffectedSOPInstanceUID = uid = generate_uid()
    if event.request.AffectedSOPClassUID == BasicFilmBox:
        box = Dataset()
        box.ReferencedSOPClassUID = BasicGrayscaleImageBox
        box.ReferencedSOPInstanceUID = generate_uid()
        ds.ReferencedImageBoxSequence = [box]
    print("N-CREATE of", event.request.AffectedSOPClassUID.name)
    return 0x0000, ds


def handle_set(event):
    print("N-SET with", len(event.modification_list.BasicGrayscaleImageSequence), "image")
    return 0x0000, None


def handle_action(event):
    print("N-ACTION", event.action_type, event.request.ActionTypeID)
    return 0x0000, None


def handle_delete(event):
    assert event.request.RequestedSOPClassUID == BasicFilmSession
    return 0x0000


ae = AE()
ae.add_supported_context(BasicGrayscalePrintManagementMeta)
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])),
    evt_handlers=[
        (evt.EVT_N_GET, handle_get),
        (evt.EVT_N_CREATE, handle_create),
        (evt.EVT_N_SET, handle_set),
        (evt.EVT_N_ACTION, handle_action),
        (evt.EVT_N_DELETE, handle_delete),
    ],
)
