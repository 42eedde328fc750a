"""Receives objects into a folder with several processes, to use all processors."""

import os
from pathlib import Path

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    Settings,
    SupervisedServer,
    evt,
)


def handle_store(event: evt.Event) -> int:
    """Run in a worker: use objects that existed at the fork, or that the worker opens."""
    print(f"worker {os.getpid()} has received {event.dataset_path}")
    return 0x0000


def serve(
    port: int = 11112, folder: str = "received", workers: int | None = None, block: bool = True
) -> SupervisedServer | None:
    Path(folder).mkdir(exist_ok=True)
    ae = AE("STORESCP", Settings(maximum_associations=200, drain_timeout=30))
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    return ae.start_server(
        ("127.0.0.1", port),
        block=block,
        evt_handlers=[(evt.EVT_C_STORE, handle_store)],
        receive_to=folder,
        workers=workers or os.cpu_count() or 1,
    )


if __name__ == "__main__":
    serve()
