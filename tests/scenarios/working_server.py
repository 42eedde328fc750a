"""A server with workers in a process of its own, so that it can be killed in all its parts.

Run as `python working_server.py OPTIONS`, a dict: "workers", "folder" (to receive into),
"settings", "beside" (also a server without workers), "dies" (its workers do, at once), "grace".
It prints a line of JSON, with its ports, and one for each command that it is given: "look",
"drain SECONDS", "shutdown", "close beside"; an empty line ends it.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import sys
import time
from dataclasses import astuple
from typing import Any

from dicomwire import AE, Settings, evt, supervisor
from dicomwire.sop_class import CTImageStorage, Verification


def die_in_workers() -> None:
    first = os.getpid()

    def die() -> None:
        if os.getppid() != first:  # not the supervisor, whose parent this is
            os._exit(3)

    os.register_at_fork(after_in_child=die)


def tell(what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201


def main() -> None:
    options = ast.literal_eval(sys.argv[1])
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    supervisor.GRACE = options.get("grace", supervisor.GRACE)
    ae = AE("SCP", Settings(**{"maximum_associations": 100, **options.get("settings", {})}))
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    folder = options.get("folder")
    handlers = [] if folder else [(evt.EVT_C_STORE, lambda event: 0x0000)]
    beside = None
    if options.get("beside"):
        beside = ae.start_server(("127.0.0.1", 0), block=False)
    if options.get("dies"):
        die_in_workers()
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=handlers,
        receive_to=folder,
        workers=options.get("workers", 2),
    )
    assert server is not None
    port = beside.server_address[1] if beside is not None else None
    tell([server.server_address[1], port, server._crew.pid])
    for line in sys.stdin:
        began = time.monotonic()
        match line.split():
            case ["look"]:
                tell([[astuple(worker) for worker in server.workers], server.restarts])
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


if __name__ == "__main__":
    main()
