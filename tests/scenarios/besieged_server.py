"""A storage server in a process of its own, for attacks that are measured from outside.

Run as `python besieged_server.py FACE FILES SETTINGS`: the face, how many files it may open (0: as
many as the system lets it), and a dict of settings. It prints its port, and takes commands by line:
"hog" takes all file descriptors that are left, "free" gives them back, "blocks" tells how many
blocks of memory Python holds, an empty line ends it.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
import os
import resource
import sys
from typing import Any

from dicomwire import evt
from dicomwire.plain import AE
from dicomwire.session.entity import Entity
from dicomwire.settings import Settings

HANDLERS = [(evt.EVT_C_STORE, lambda event: 0x0000)]
ADDRESS = ("127.0.0.1", 0)


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = int(sys.argv[2]) or hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    settings = Settings(**ast.literal_eval(sys.argv[3]))
    if sys.argv[1] == "threaded":
        serve(settings)
    elif sys.argv[1] == "asyncio":
        asyncio.run(serve_on_a_loop(settings))
    else:
        import uvloop

        uvloop.run(serve_on_a_loop(settings))


def support(ae: Entity[Any]) -> None:
    ae.add_supported_context("1.2.840.10008.1.1")  # verification
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")  # CT images


def serve(settings: Settings) -> None:
    ae = AE(settings=settings)
    support(ae)
    server = ae.start_server(ADDRESS, block=False, evt_handlers=HANDLERS)
    assert server is not None
    obey(server.server_address[1])
    ae.shutdown()


async def serve_on_a_loop(settings: Settings) -> None:
    from dicomwire import aio  # imports pydicom, which takes longer than many of these tests

    ae = aio.AE(settings=settings)
    support(ae)
    async with ae.start_server(ADDRESS, evt_handlers=HANDLERS) as server:
        await asyncio.to_thread(obey, server.server_address[1])


def obey(port: int) -> None:
    print(port, flush=True)  # noqa: T201
    hogged: list[int] = []
    for line in sys.stdin:
        if line == "hog\n":
            try:
                while True:
                    hogged.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
        elif line == "free\n":
            while hogged:
                os.close(hogged.pop())
        elif line == "blocks\n":
            gc.collect()
            print(sys.getallocatedblocks(), flush=True)  # noqa: T201
            continue
        else:
            break
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
