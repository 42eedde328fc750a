"""Answers C-ECHO requests."""

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import Verification


def handle_echo(event: evt.Event) -> int:
    """Return the status of the response; 0x0000 is success."""
    print("C-ECHO from", event.assoc.requestor.ae_title)
    return 0x0000


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("ECHOSCP")
    ae.add_supported_context(Verification)
    handlers = [(evt.EVT_C_ECHO, handle_echo)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
