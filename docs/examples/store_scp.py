"""Receives objects, and writes each to a file of its own."""

from pathlib import Path

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    AssociationServer,
    evt,
)


def handle_store(event: evt.Event, folder: Path) -> int:
    """Write the object as received to a file named after its UID, if that is valid."""
    uid = event.request.AffectedSOPInstanceUID
    if not uid.is_valid:  # the peer chose it, and we use it as a file name
        return 0x0117  # Invalid SOP instance UID
    try:
        (folder / f"{uid}.dcm").write_bytes(event.encoded_dataset())
    except OSError:
        return 0xA700  # Out of resources
    return 0x0000


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    Path(folder).mkdir(exist_ok=True)
    ae = AE("STORESCP")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    handlers = [(evt.EVT_C_STORE, handle_store, [Path(folder)])]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
