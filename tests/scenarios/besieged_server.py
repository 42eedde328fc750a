"""A storage server in a process of its own, for attacks that are measured from outside.

Run as `python besieged_server.py FILES SETTINGS`: how many files it may open (0: as many as the
system lets it), and a dict of settings. It prints its port, and takes commands by line:
"hog" takes all file descriptors that are left, "free" gives them back, an empty line ends it.
"""

from __future__ import annotations

import ast
import logging
import os
import resource
import sys

from dicomwire import AE, Settings, evt
from dicomwire.sop_class import CTImageStorage, Verification


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = int(sys.argv[1]) or hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    ae = AE(settings=Settings(**ast.literal_eval(sys.argv[2])))
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    print(server.server_address[1], flush=True)  # noqa: T201
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
        else:
            break
        print("done", flush=True)  # noqa: T201
    ae.shutdown()


if __name__ == "__main__":
    main()
