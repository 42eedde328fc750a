"""Queries patients and sends files at the same time, with asyncio."""

import asyncio
import sys
from pathlib import Path

from pydicom import Dataset

from dicomwire import AllStoragePresentationContexts, AssociationFailure
from dicomwire.aio import AE
from dicomwire.sop_class import PatientRootQueryRetrieveInformationModelFind

MODEL = PatientRootQueryRetrieveInformationModelFind


async def find(port: int) -> list[str]:
    """Return the names of all patients."""
    ae = AE("ASYNCIOSCU")
    ae.add_requested_context(MODEL)
    query = Dataset()
    query.QueryRetrieveLevel = "PATIENT"
    query.PatientName = ""
    async with ae.associate("127.0.0.1", port) as assoc:
        found = [match async for _, match in assoc.send_c_find(query, MODEL)]
    return [str(match.PatientName) for match in found if match]


async def send(files: list[Path], port: int) -> list[int]:
    """Send files one after the other; return the statuses."""
    ae = AE("ASYNCIOSCU")
    ae.requested_contexts = AllStoragePresentationContexts[:128]
    async with ae.associate("127.0.0.1", port) as assoc:
        return [(await assoc.send_c_store(file)).Status for file in files]


async def main(files: list[Path], port: int = 11112) -> tuple[list[str], list[int]]:
    async with asyncio.TaskGroup() as group:
        finding = group.create_task(find(port))
        sending = group.create_task(send(files, port))
    return finding.result(), sending.result()


if __name__ == "__main__":
    try:
        print(asyncio.run(main([Path(name) for name in sys.argv[1:]])))
    except* AssociationFailure as failures:
        print("Failed:", failures.exceptions[0])
