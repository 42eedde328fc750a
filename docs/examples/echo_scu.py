"""Tests whether a peer answers."""

from dicomwire import AE
from dicomwire.sop_class import Verification


def echo(host: str = "127.0.0.1", port: int = 11112) -> bool:
    """Return whether the peer answers with success."""
    ae = AE("ECHOSCU")
    ae.add_requested_context(Verification)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            print("No association:", assoc.failure)
            return False
        status = assoc.send_c_echo()
        if "Status" not in status:
            print("No response:", assoc.failure)
            return False
        return bool(status.Status == 0x0000)


if __name__ == "__main__":
    print("The peer answers" if echo() else "The peer does not answer")
