"""Receives films to print (Basic Grayscale Print Management)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import (
    BasicFilmBox,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    PrinterInstance,
)

OBJECTS: dict[str, Dataset] = {}  # film sessions, film boxes and image boxes by UID
PRINTED: list[str] = []  # film boxes


def reference(sop_class: str, uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = uid
    return item


def handle_get(event: evt.Event) -> tuple[int, Dataset | None]:
    """Return the state of the printer."""
    if event.request.RequestedSOPInstanceUID != PrinterInstance:
        return 0x0112, None  # No such SOP instance
    printer = Dataset()
    printer.PrinterStatus = "NORMAL"
    printer.PrinterStatusInfo = "NORMAL"
    return 0x0000, printer


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """Make a film session, or a film box with as many image boxes as its format has."""
    uid = event.request.AffectedSOPInstanceUID or generate_uid()
    made = event.attribute_list
    if event.request.AffectedSOPClassUID == BasicFilmBox:
        columns, rows = made.ImageDisplayFormat.removeprefix("STANDARD\\").split(",")
        boxes = [generate_uid() for _ in range(int(columns) * int(rows))]
        OBJECTS.update((box, Dataset()) for box in boxes)
        made.ReferencedImageBoxSequence = [reference(BasicGrayscaleImageBox, box) for box in boxes]
    OBJECTS[uid] = made
    answer = Dataset()
    answer.update(made)
    if event.request.AffectedSOPInstanceUID is None:
        answer.AffectedSOPInstanceUID = uid  # the SCU left the UID to us
    return 0x0000, answer


def handle_set(event: evt.Event) -> tuple[int, Dataset | None]:
    """Put an image into its image box, or change another object."""
    known = OBJECTS.get(event.request.RequestedSOPInstanceUID)
    if known is None:
        return 0x0112, None  # No such SOP instance
    known.update(event.modification_list)
    return 0x0000, event.modification_list


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Print a film box (action type 1)."""
    uid = event.request.RequestedSOPInstanceUID
    film = OBJECTS.get(uid)
    if film is None:
        return 0x0112, None  # No such SOP instance
    boxes = [each.ReferencedSOPInstanceUID for each in film.ReferencedImageBoxSequence]
    if not any("BasicGrayscaleImageSequence" in OBJECTS[box] for box in boxes):
        return 0xB603, None  # Warning: empty page
    PRINTED.append(uid)  # here the images would go to the printer
    return 0x0000, None


def handle_delete(event: evt.Event) -> int:
    """Delete an object."""
    known = OBJECTS.pop(event.request.RequestedSOPInstanceUID, None)
    return 0x0112 if known is None else 0x0000


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("PRINTSCP")
    ae.add_supported_context(BasicGrayscalePrintManagementMeta)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_N_GET, handle_get),
        (evt.EVT_N_CREATE, handle_create),
        (evt.EVT_N_SET, handle_set),
        (evt.EVT_N_ACTION, handle_action),
        (evt.EVT_N_DELETE, handle_delete),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
