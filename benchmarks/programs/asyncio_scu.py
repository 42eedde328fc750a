"""A storage client of the asyncio face: `asyncio_scu.py PORT PDU FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dicomwire import build_context
from dicomwire.aio import AE
from dicomwire.data.file_meta import parse_file_meta


async def send(port: int, pdu: int, folder: str) -> None:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    with paths[0].open("rb") as file:
        head = parse_file_meta(file)
    contexts = [build_context(head.sop_class_uid, head.transfer_syntax_uid)]
    async with AE().associate("127.0.0.1", port, contexts, max_pdu=pdu) as assoc:
        for path in paths:
            status = await assoc.send_c_store(path)
            if status.Status != 0:
                raise SystemExit(f"{path}: {status.Status:04X}")


asyncio.run(send(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
