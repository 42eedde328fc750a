"""Count the Python calls that a small C-STORE costs: `python -m benchmarks.calls [--list]`.

Both ends are in this process, on the threaded face, with a handler bound. The calls of the thread
that sends are the requestor's, those of all others the acceptor's. The acceptor's negotiation is
counted too, and spread over the objects.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.measure import HOST
from benchmarks.workload import SMALL
from dicomwire import AE, evt
from dicomwire.sop_class import CTImageStorage

OBJECTS = 1000
MOST_LISTED = 40

Calls = Counter[str]


def main() -> int:
    with tempfile.TemporaryDirectory() as root:
        sent, received = _count(SMALL.folder(Path(root), OBJECTS))
    for end, calls in (("outgoing", sent), ("incoming", received)):
        print(f"{end}: {calls.total() / OBJECTS:.1f} Python calls for each C-STORE of {SMALL.name}")
        if "--list" in sys.argv:
            for name, count in calls.most_common(MOST_LISTED):
                print(f"  {count / OBJECTS:6.2f}  {name}")
    return 0


def _count(folder: Path) -> tuple[Calls, Calls]:
    """Send all files of `folder`; return the calls of the requestor and of the acceptor."""
    paths = sorted(folder.iterdir())
    calls: dict[bool, Calls] = {True: Counter(), False: Counter()}
    requestor = threading.get_ident()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            code = frame.f_code
            name = f"{Path(code.co_filename).name}: {code.co_qualname}"
            calls[threading.get_ident() == requestor][name] += 1

    acceptor, sender = AE(), AE()
    acceptor.add_supported_context(CTImageStorage)
    sender.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    threading.setprofile(note)  # for the threads to come
    server = acceptor.start_server((HOST, 0), False, evt_handlers=[(evt.EVT_C_STORE, _store)])
    assert server is not None
    try:
        with sender.associate(HOST, server.server_address[1]) as association:
            sys.setprofile(note)
            for path in paths:
                assert association.send_c_store(path).Status == 0x0000
            sys.setprofile(None)
    finally:
        threading.setprofile(None)
        server.shutdown()
    return calls[True], calls[False]


def _store(_: evt.Event) -> int:
    return 0x0000


if __name__ == "__main__":
    sys.exit(main())
