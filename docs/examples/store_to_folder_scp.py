"""Receives objects of any size straight into files, and looks at each."""

from pathlib import Path

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    AssociationServer,
    evt,
)


def handle_store(event: evt.Event) -> int:
    """The file is complete and has its final name; the C-STORE is not answered yet."""
    path = event.dataset_path
    print(path, path.stat().st_size, "bytes")
    return 0x0000


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    Path(folder).mkdir(exist_ok=True)
    ae = AE("STORESCP")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    handlers = [(evt.EVT_C_STORE, handle_store)]
    return ae.start_server(
        ("127.0.0.1", port), block=block, evt_handlers=handlers, receive_to=folder
    )


if __name__ == "__main__":
    serve()
