import sys

from pynetdicom import AE, debug_logger, evt
from pynetdicom.sop_class import Verification

debug_logger()


def handle_open(event):
    print(f"connected from {event.address[0]}")


def handle_accepted(event, prefix):
    requestor = event.assoc.requestor
    print(f"{prefix} {requestor.ae_title} at {requestor.address}")


def handle_echo(event):
    print(f"echo {event.message_id} on {event.context.abstract_syntax.name}")
    return 0x0000


ae = AE(ae_title="ECHO_SCP")
ae.add_supported_context(Verification)
ae.start_server(
    ("127.0.0.1", int(sys.argv[1])),
    evt_handlers=[
        (evt.EVT_CONN_OPEN, handle_open),
        (evt.EVT_ACCEPTED, handle_accepted, ["accepted"]),
        (evt.EVT_C_ECHO, handle_echo),
    ],
)
print("server stopped")
