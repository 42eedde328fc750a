"""Stores hanging protocols, finds them and sends them back."""

from collections.abc import Iterator
from typing import Any

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import (
    HangingProtocolInformationModelFind,
    HangingProtocolInformationModelGet,
    HangingProtocolStorage,
)

PROTOCOLS: dict[str, Dataset] = {}


def handle_store(event: evt.Event) -> int:
    """Store a protocol (Non-Patient Object Storage)."""
    protocol = event.dataset
    protocol.file_meta = event.file_meta
    PROTOCOLS[protocol.SOPInstanceUID] = protocol
    return 0x0000


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """Find protocols by name; there are no levels in this model."""
    name = event.identifier.get("HangingProtocolName")
    for uid, protocol in PROTOCOLS.items():
        if name in (None, "", protocol.HangingProtocolName):
            match = Dataset()
            match.SOPClassUID = HangingProtocolStorage
            match.SOPInstanceUID = uid
            match.HangingProtocolName = protocol.HangingProtocolName
            yield 0xFF00, match


def handle_get(event: evt.Event) -> Iterator[Any]:
    """Send protocols by UID."""
    wanted = event.identifier.SOPInstanceUID
    found = [uid for uid in ([wanted] if isinstance(wanted, str) else wanted) if uid in PROTOCOLS]
    yield len(found)
    for uid in found:
        yield 0xFF00, PROTOCOLS[uid]


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("PROTOCOLS")
    ae.add_supported_context(HangingProtocolInformationModelFind)
    ae.add_supported_context(HangingProtocolInformationModelGet)
    ae.add_supported_context(HangingProtocolStorage, scu_role=True, scp_role=True)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_C_STORE, handle_store),
        (evt.EVT_C_FIND, handle_find),
        (evt.EVT_C_GET, handle_get),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
