"""Count the Python calls of common operations: `python -m benchmarks.calls [--list] [CELL …]`.

Both ends are in this process, on the threaded face. The calls of the thread that sends are the
requestor's, those of all others the acceptor's. The acceptor's negotiation is counted too, and
spread over the objects and the C-ECHOs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType

from benchmarks.counting import CallCounter
from benchmarks.measure import HOST
from benchmarks.programs.knock import knock
from benchmarks.workload import SMALL
from dicomwire import AE, evt
from dicomwire.node.configuration import Configuration
from dicomwire.node.server import Node
from dicomwire.sop_class import CTImageStorage, Verification
from dicomwire.threaded.association import Association

OBJECTS = 1000
ECHOES = 1000
ASSOCIATIONS = 200
MOST_LISTED = 40


class Counted(CallCounter):
    """The Python calls of one operation, done `count` times: the requestor's and the acceptor's.

    With `handler`, only threads that call this function count as the acceptor.
    """

    def __init__(self, name: str, count: int, handler: str | None = None) -> None:
        super().__init__()
        self.name = name
        self._count = count
        self._handler = handler
        self._requestor = threading.get_ident()

    def report(self, *, listed: bool) -> None:
        """Print the calls of both ends, as far as any were counted."""
        sent = _by_name(self.by_thread.pop(self._requestor, Counter()))
        received = Counter[str]()
        for calls in map(_by_name, self.by_thread.values()):
            if self._handler is None or self._handler in calls:
                received += calls
        for end, calls in (("outgoing", sent), ("incoming", received)):
            if not calls:
                continue
            print(f"{end}: {calls.total() / self._count:.1f} Python calls for each {self.name}")
            if listed:
                for name, count in calls.most_common(MOST_LISTED):
                    print(f"  {count / self._count:6.2f}  {name}")


def _by_name(calls: Counter[CodeType]) -> Counter[str]:
    named = Counter[str]()
    for code, count in calls.items():
        named[f"{Path(code.co_filename).name}: {code.co_qualname}"] += count
    return named


def main() -> int:
    """Count the calls of one kind of operation, or of each in a process of its own.

    A profile is of the threads that start under it, and threads serve one association after
    another.
    """
    listed = "--list" in sys.argv
    chosen = [name for name in sys.argv[1:] if name in CELLS]
    if len(chosen) == 1:
        CELLS[chosen[0]]().report(listed=listed)
        return 0
    options = ["--list"] if listed else []
    for name in chosen or CELLS:
        subprocess.run([sys.executable, "-m", "benchmarks.calls", name, *options], check=True)
    return 0


def _store_calls() -> Counted:
    with tempfile.TemporaryDirectory() as root:
        paths = sorted(SMALL.folder(Path(root), OBJECTS).iterdir())
        return _messages(
            Counted(f"C-STORE of {SMALL.name}", OBJECTS),
            lambda association: [association.send_c_store(path).Status for path in paths],
        )


def _archive_calls() -> Counted:
    name = f"C-STORE of {SMALL.name} to an archive"
    counted = Counted(name, OBJECTS, "services.py: Services._store")
    with tempfile.TemporaryDirectory() as root:
        paths = sorted(SMALL.folder(Path(root), OBJECTS).iterdir())
        configuration = Configuration(folder=Path(root, "archive"), port=0)
        try:
            threading.setprofile(counted.note)  # for the threads to come
            with Node(configuration) as node, _requestor().associate(*node.address) as association:
                statuses = {association.send_c_store(path).Status for path in paths}
        finally:
            threading.setprofile(None)
    assert statuses == {0x0000}
    return counted


def _echo_calls() -> Counted:
    return _messages(
        Counted("C-ECHO", ECHOES),
        lambda association: [association.send_c_echo().Status for _ in range(ECHOES)],
    )


def _messages(counted: Counted, send: Callable[[Association], list[int]]) -> Counted:
    """Count the calls of messages on one association."""
    with _Server(counted) as port, _requestor().associate(HOST, port) as association:
        sys.setprofile(counted.note)
        statuses = send(association)
        sys.setprofile(None)
    assert set(statuses) == {0x0000}
    return counted


def _requested() -> Counted:
    """Count the requestor's calls of associations that are established and released."""
    counted = Counted("association", ASSOCIATIONS)
    with _Server(None) as port:
        sender = _requestor()
        sys.setprofile(counted.note)
        for _ in range(ASSOCIATIONS):
            sender.associate(HOST, port).release()
        sys.setprofile(None)
    return counted


def _accepted() -> Counted:
    """Count the acceptor's calls of associations that are established and released."""
    counted = Counted("association", ASSOCIATIONS)
    with _Server(counted) as port:
        for _ in range(ASSOCIATIONS):
            knock(port)
    return counted


class _Server:
    """A server of the threaded face, whose calls are `counted`."""

    def __init__(self, counted: Counted | None) -> None:
        self._counted = counted

    def __enter__(self) -> int:
        acceptor = AE()
        acceptor.add_supported_context(CTImageStorage)
        acceptor.add_supported_context(Verification)
        handlers = [(evt.EVT_C_STORE, _store)]
        if self._counted is not None:
            threading.setprofile(self._counted.note)  # for the threads to come
        server = acceptor.start_server((HOST, 0), False, evt_handlers=handlers)
        assert server is not None
        self._server = server
        port: int = server.server_address[1]
        return port

    def __exit__(self, *_: object) -> None:
        threading.setprofile(None)
        self._server.drain()


def _requestor() -> AE:
    sender = AE()
    sender.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    sender.add_requested_context(Verification)
    return sender


def _store(_: evt.Event) -> int:
    return 0x0000


CELLS: dict[str, Callable[[], Counted]] = {
    "store": _store_calls,
    "archive": _archive_calls,
    "echo": _echo_calls,
    "request": _requested,
    "accept": _accepted,
}


if __name__ == "__main__":
    sys.exit(main())
