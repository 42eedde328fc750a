"""Prints an image on film (Basic Grayscale Print Management)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE
from dicomwire.sop_class import (
    BasicFilmBox,
    BasicFilmSession,
    BasicGrayscaleImageBox,
    BasicGrayscalePrintManagementMeta,
    Printer,
    PrinterInstance,
)


def image(columns: int, rows: int, pixels: bytes) -> Dataset:
    """Return an 8 bit grayscale image in the form that an image box needs."""
    ds = Dataset()
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = pixels
    ds["PixelData"].VR = "OW"
    return ds


def check(what: str, status: Dataset) -> None:
    if status.get("Status") != 0x0000:
        raise SystemExit(f"{what} failed: {status}")


def print_image(picture: Dataset, host: str = "127.0.0.1", port: int = 11112) -> str:
    """Print one image on one film; return the film box's UID."""
    meta = BasicGrayscalePrintManagementMeta
    ae = AE("PRINTSCU")
    ae.add_requested_context(meta)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")

        # All these SOP classes use the one context of their Meta SOP class.
        status, printer = assoc.send_n_get([], Printer, PrinterInstance, meta_uid=meta)
        check("Asking for the printer", status)
        if printer is not None and printer.PrinterStatus == "FAILURE":
            raise SystemExit(f"The printer does not work: {printer.PrinterStatusInfo}")

        session_uid, film_uid = generate_uid(), generate_uid()
        session = Dataset()
        session.NumberOfCopies = "1"
        status, _ = assoc.send_n_create(session, BasicFilmSession, session_uid, meta_uid=meta)
        check("Creating the film session", status)

        parent = Dataset()
        parent.ReferencedSOPClassUID = BasicFilmSession
        parent.ReferencedSOPInstanceUID = session_uid
        film = Dataset()
        film.ImageDisplayFormat = "STANDARD\\1,1"
        film.FilmOrientation = "PORTRAIT"
        film.ReferencedFilmSessionSequence = [parent]
        status, created = assoc.send_n_create(film, BasicFilmBox, film_uid, meta_uid=meta)
        check("Creating the film box", status)

        if created is None:
            raise SystemExit("The printer did not say which image boxes the film has")
        box = created.ReferencedImageBoxSequence[0].ReferencedSOPInstanceUID
        content = Dataset()
        content.ImageBoxPosition = 1
        content.BasicGrayscaleImageSequence = [picture]
        status, _ = assoc.send_n_set(content, BasicGrayscaleImageBox, box, meta_uid=meta)
        check("Sending the image", status)

        status, _ = assoc.send_n_action(None, 1, BasicFilmBox, film_uid, meta_uid=meta)
        check("Printing", status)
        check("Clearing up", assoc.send_n_delete(BasicFilmSession, session_uid, meta_uid=meta))
    return film_uid


if __name__ == "__main__":
    print_image(image(256, 256, bytes(range(256)) * 256))
