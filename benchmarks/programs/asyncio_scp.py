"""A storage and echo server of the asyncio face: `asyncio_scp.py PORT PDU [FOLDER]`.

On uvloop where the first word is "uvloop", with two workers where it is "workers".
"""

from __future__ import annotations

import asyncio
import sys

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import AllStoragePresentationContexts, Settings
from dicomwire.aio import AE
from dicomwire.data.sinks import DiscardSink, Sink
from dicomwire.protocol.command import Message
from dicomwire.sop_class import Verification


async def serve(port: int, pdu: int, folder: str | None, workers: int | None) -> None:
    settings = Settings(
        maximum_associations=20_000,
        maximum_connections=20_000,
        connections_per_address=20_000,
        network_timeout=3600.0,
    )
    ae = AE("BENCHMARK", settings)
    ae.maximum_pdu_size = pdu
    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    ae.add_supported_context(Verification, syntaxes)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), syntaxes)

    def place(request: Message) -> str | Sink:
        return f"{folder}/X.{request.AffectedSOPInstanceUID}" if folder else DiscardSink()

    address = ("127.0.0.1", port)
    if workers is None:
        async with ae.start_server(address, receive_to=place) as server:
            await server.serve_forever()
    else:
        async with ae.start_server(address, receive_to=place, workers=workers) as supervised:
            await supervised.serve_forever()


def main() -> None:
    words = sys.argv[1:]
    run = asyncio.run
    workers = None
    if words[0] == "uvloop":
        import uvloop

        run = uvloop.run
        words = words[1:]
    elif words[0] == "workers":
        workers = 2
        words = words[1:]
    run(serve(int(words[0]), int(words[1]), words[2] if len(words) > 2 else None, workers))


if __name__ == "__main__":
    main()
