"""Run by pynetdicom's Python: a Storage SCP that keeps what it receives, and an SCU.

Asked and answered in lines of JSON on standard input and output (see `peers.Conversation`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def receive(folder: Path, classes: list[str]) -> None:
    """Write each object as it came into a file of `folder`, until standard input ends.

    For each association, pynetdicom copies all contexts that are supported, so those are few.
    """

    def keep(event: evt.Event) -> int:
        name = str(event.request.AffectedSOPInstanceUID)
        (folder / name).write_bytes(event.encoded_dataset())
        return 0x0000

    ae = AE("PEER")
    for uid in classes:
        ae.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    say(server.server_address[1])
    sys.stdin.read()
    server.shutdown()


def send(port: int, contexts: list[list[str]]) -> None:
    """Send the files whose paths come in, and answer with the statuses of the responses."""
    ae = AE("PEER")
    for abstract, transfer in contexts:
        ae.add_requested_context(abstract, transfer)
    association = ae.associate("127.0.0.1", port)
    say(len(association.accepted_contexts))
    for line in sys.stdin:
        if not association.is_established:
            association = ae.associate("127.0.0.1", port)
        try:
            status = association.send_c_store(json.loads(line))
        except Exception as error:
            say(f"{type(error).__name__}: {error}")
        else:
            say(status.get("Status"))
    association.release()


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        send(int(sys.argv[2]), json.loads(sys.argv[3]))
