import sys

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import (
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    Printer,
    PrinterInstance,
)

META = {"meta_uid": BasicGrayscalePrintManagementMeta}

ae = AE()
ae.add_requested_context(BasicGrayscalePrintManagementMeta)
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))

status, printer = assoc.send_n_get([0x21100010], Printer, PrinterInstance, **META)
print(f"0x{status.Status:04X}", printer.PrinterStatus)

session = Dataset()
session.NumberOfCopies = "1"
session_uid = generate_uid()
status, _ = assoc.send_n_create(session, BasicFilmSession, session_uid, **META)
print(f"0x{status.Status:04X}")

film = Dataset()
film.ImageDisplayFormat = "STANDARD\\1,1"
film.ReferencedFilmSessionSequence = [Dataset()]
film.ReferencedFilmSessionSequence[0].ReferencedSOPClassUID = BasicFilmSession
film.ReferencedFilmSessionSequence[0].ReferencedSOPInstanceUID = session_uid
status, film = assoc.send_n_create(film, BasicFilmBox, None, **META)
print(f"0x{status.Status:04X}", film.ImageDisplayFormat)

box = Dataset()
box.ImageBoxPosition = 1
box.BasicGrayscaleImageSequence = [Dataset()]
uid = film.ReferencedImageBoxSequence[0].ReferencedSOPInstanceUID
status, _ = assoc.send_n_set(box, BasicGrayscaleImageBox, uid, **META)
print(f"0x{status.Status:04X}")

status, _ = assoc.send_n_action(None, 1, BasicFilmSession, session_uid, **META)
print(f"0x{status.Status:04X}")
status = assoc.send_n_delete(BasicFilmSession, session_uid, **META)
print(f"0x{status.Status:04X}")
assoc.release()
