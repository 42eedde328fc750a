"""Answers C-ECHO and C-FIND, and stores received objects in a folder, with asyncio."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from pydicom import Dataset

from dicomwire import AllStoragePresentationContexts, evt
from dicomwire.aio import AE, AssociationServer
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind, Verification

PATIENTS = {"1": "Ann", "2": "Bob"}


async def handle_find(event: evt.Event) -> AsyncIterator[tuple[int, Dataset | None]]:
    """Yield the patients; a real program would await a database here."""
    for number, name in PATIENTS.items():
        await asyncio.sleep(0)
        if event.is_cancelled:
            yield 0xFE00, None
            return
        match = Dataset()
        match.QueryRetrieveLevel = "PATIENT"
        match.PatientID, match.PatientName = number, name
        yield 0xFF00, match


async def handle_echo(event: evt.Event) -> int:
    return 0x0000


async def start(folder: Path, port: int = 11112) -> AssociationServer:
    ae = AE("ASYNCIOSCP")
    ae.add_supported_context(Verification)
    ae.add_supported_context(PatientRootQueryRetrieveInformationModelFind)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_ECHO, handle_echo),
        (evt.EVT_C_FIND, handle_find),
    ]
    return await ae.start_server(("127.0.0.1", port), evt_handlers=handlers, receive_to=folder)


async def main() -> None:
    folder = Path("received")
    folder.mkdir(exist_ok=True)
    async with await start(folder) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
