"""Associations that do nothing: `crowd.py PORT COUNT` prints "ready" once all are established.

They stay until standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

from dicomwire import Settings
from dicomwire.aio import AE
from dicomwire.sop_class import Verification

AT_ONCE = 50


async def gather(port: int, count: int) -> None:
    ae = AE("CROWD", Settings(network_timeout=None))
    ae.add_requested_context(Verification)
    places = asyncio.Semaphore(AT_ONCE)

    async def come() -> None:
        async with places:
            assoc = await ae.associate("127.0.0.1", port)
            if (await assoc.send_c_echo()).Status != 0:
                raise SystemExit("an echo failed")

    await asyncio.gather(*(come() for _ in range(count)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await ae.shutdown()


asyncio.run(gather(int(sys.argv[1]), int(sys.argv[2])))
