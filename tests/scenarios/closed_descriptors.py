"""A program that closes a descriptor of the library's by mistake, and goes on; for each of them.

It prints a line for each: what it was, and whether others were served afterwards.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket

from dicomwire import AE
from dicomwire.sop_class import Verification
from dicomwire.threaded.watcher import watcher

LONGEST = 30
"""Seconds after which one of the processes has failed."""


def main() -> None:
    for index in itertools.count():
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            signal.alarm(LONGEST)
            os.write(writing, close_and_serve(index).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            line = answer.read()
        os.waitpid(pid, 0)
        if line == "that was all":
            return
        print(line or "nothing", flush=True)  # noqa: T201


def close_and_serve(index: int) -> str:
    """Close the descriptor with that index, and return what became of others."""
    before = open_numbers()
    ae = AE("SCP")
    ae.add_supported_context(Verification)
    ae.add_requested_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    port = server.server_address[1]
    with socket.create_connection(("127.0.0.1", port)) as silent:
        assoc = ae.associate("127.0.0.1", port)
        assert assoc.send_c_echo().Status == 0
        numbers = sorted(open_numbers() - before - {silent.fileno()})
        if index == len(numbers):
            return "that was all"
        number = numbers[index]
        what = {watcher()._selector.fileno(): "selector", server.socket.fileno(): "listener"}
        os.close(number)
        statuses = [serve_once(ae) for _ in range(3)]
        server.shutdown()
    ae.shutdown()
    return f"{what.get(number, 'connection')} {statuses}"


def open_numbers() -> set[int]:
    """Return the descriptors that are open."""
    listed = map(int, os.listdir("/proc/self/fd"))
    return {each for each in listed if os.path.lexists(f"/proc/self/fd/{each}")}  # still


def serve_once(ae: AE) -> int:
    """Return the status of an echo to one more server."""
    with (
        ae.start_server(("127.0.0.1", 0), block=False) as server,
        ae.associate(*server.server_address) as assoc,
    ):
        return int(assoc.send_c_echo().Status)


if __name__ == "__main__":
    main()
