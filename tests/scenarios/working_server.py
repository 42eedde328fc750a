"""A server with workers in a process of its own, so that it can be killed in all its parts.

Run as `python working_server.py OPTIONS`, a dict: "face", "workers", "folder" (to receive into),
"settings", "beside" (also a server without workers), "grace",
"takes" (seconds that it takes to store an object).
It prints a line of JSON, with its ports, and one for each command that it is given: "look",
"drain SECONDS", "shutdown", "close beside"; an empty line ends it.
"""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

from dicomwire import evt
from dicomwire.plain import AE
from dicomwire.session.entity import Entity
from dicomwire.settings import Settings
from dicomwire.workers import supervisor

ADDRESS = ("127.0.0.1", 0)


@contextmanager
def telling() -> Iterator[None]:
    """Say in the log when a worker enters and leaves it."""
    logging.info("A worker begins")
    yield
    logging.info("A worker ends")


def tell(what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


def main() -> None:
    options = ast.literal_eval(sys.argv[1])
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    supervisor.GRACE = options.get("grace", supervisor.GRACE)
    if options.get("face", "threaded") == "threaded":
        serve(options)
    elif options["face"] == "asyncio":
        asyncio.run(serve_on_a_loop(options))
    else:
        import uvloop

        uvloop.run(serve_on_a_loop(options))


def prepare(ae: Entity[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what a server with workers is started with."""
    ae.add_supported_context("1.2.840.10008.1.1")  # verification
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")  # CT images
    folder = options.get("folder")
    handlers = [] if folder else [(evt.EVT_C_STORE, lambda event: 0x0000)]
    if "takes" in options:

        async def store(event: evt.Event) -> int:
            logging.info("An object is being stored")
            await asyncio.sleep(options["takes"])
            return 0x0000

        handlers = [(evt.EVT_C_STORE, store)]
    workers = options.get("workers", 2)
    return {
        "evt_handlers": handlers,
        "receive_to": folder,
        "workers": workers,
        "worker_context": telling,
    }


def settings_of(options: dict[str, Any]) -> Settings:
    return Settings(**{"maximum_associations": 100, **options.get("settings", {})})


def serve(options: dict[str, Any]) -> None:
    ae = AE("SCP", settings_of(options))
    prepared = prepare(ae, options)
    beside = ae.start_server(ADDRESS, block=False) if options.get("beside") else None
    server = ae.start_server(ADDRESS, block=False, **prepared)
    assert server is not None
    port = beside.server_address[1] if beside is not None else None
    tell([server.server_address[1], port, server._pid])
    for line in sys.stdin:
        began = time.monotonic()
        match line.split():
            case ["look"]:
                look(server)
                continue
            case ["drain", seconds]:
                server.drain(float(seconds))
            case ["shutdown"]:
                server.shutdown()
            case ["close", "beside"]:
                assert beside is not None
                beside.shutdown()
            case _:
                break
        tell(time.monotonic() - began)
    ae.shutdown()


async def serve_on_a_loop(options: dict[str, Any]) -> None:
    from dicomwire import aio  # imports pydicom, which takes longer than many of these tests

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, logging.error, "The program heard SIGTERM")
    ae = aio.AE("SCP", settings_of(options))
    prepared = prepare(ae, options)
    beside = await ae.start_server(ADDRESS) if options.get("beside") else None
    server = await ae.start_server(ADDRESS, **prepared)
    port = beside.server_address[1] if beside is not None else None
    tell([server.server_address[1], port, server._pid])
    while line := await asyncio.to_thread(sys.stdin.readline):
        began = time.monotonic()
        match line.split():
            case ["look"]:
                look(server)
                continue
            case ["drain", seconds]:
                await server.close(float(seconds))
            case ["close", "beside"]:
                assert beside is not None
                await beside.close()
            case _:
                break
        tell(time.monotonic() - began)
    await ae.shutdown()


def look(server: Any) -> None:
    tell([[astuple(worker) for worker in server.workers], server.restarts])


if __name__ == "__main__":
    main()
