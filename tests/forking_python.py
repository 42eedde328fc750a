"""Runs Python programs, each in a fork of this process; see `forked_programs.py`, which starts it.

Run as `python forking_python.py DESCRIPTOR MODULE…`: it imports the modules, then takes requests
from the socket, and sends the process identifier and, in the end, the exit code of each program.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import warnings
from typing import Any


def take(control: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; return the request in the fork, and None in the end."""
    running: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is woken:
                woken.recv(1000)
                reap(running)
                continue
            request, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 4)
            if not request:
                return None
            program = os.fork()
            if not program:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, descriptor in enumerate(descriptors[:3]):
                    os.dup2(descriptor, number)
                for descriptor in descriptors:
                    os.close(descriptor)
                selector.close()
                for sock in (control, woken, waker, *running.values()):
                    sock.close()
                found: dict[str, Any] = json.loads(request)
                return found
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            running[program] = socket.socket(fileno=descriptors[3])
            running[program].send(str(program).encode())


def reap(running: dict[int, socket.socket]) -> None:
    """Tell of the programs that are over."""
    for program in list(running):
        over, status = os.waitpid(program, os.WNOHANG)
        if over:
            with running.pop(program) as told, contextlib.suppress(OSError):  # if nobody waits
                told.send(str(os.waitstatus_to_exitcode(status)).encode())


def run(request: dict[str, Any]) -> None:
    """Be the program: what `python` does with its arguments."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    kind, *rest = request["arguments"]
    if kind == "-W":
        warnings.simplefilter(*rest[:1])
        kind, *rest = rest[1:]
    if is_safe := kind == "-P":
        kind, *rest = rest
    if kind == "-m":
        sys.path[:1], sys.argv = [] if is_safe else [os.getcwd()], rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path[0], sys.argv = "", ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0], sys.argv = os.path.dirname(kind), [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as own:
        for name in sys.argv[2:]:
            importlib.import_module(name)
        gc.freeze()  # or each fork would copy all of it
        wanted = take(own)
    if wanted is not None:
        run(wanted)
