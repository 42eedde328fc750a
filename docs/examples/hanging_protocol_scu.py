"""Stores a hanging protocol, finds it by its name, and retrieves it."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicomwire import AE, build_role, evt
from dicomwire.sop_class import (
    HangingProtocolInformationModelFind,
    HangingProtocolInformationModelGet,
    HangingProtocolStorage,
)


def new_protocol(name: str) -> Dataset:
    protocol = Dataset()
    protocol.SOPClassUID = HangingProtocolStorage
    protocol.SOPInstanceUID = generate_uid()
    protocol.HangingProtocolName = name
    protocol.HangingProtocolLevel = "SITE"
    protocol.file_meta = FileMetaDataset()
    protocol.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return protocol


def demonstrate(host: str = "127.0.0.1", port: int = 11112) -> list[Dataset]:
    """Return the retrieved protocols."""
    received = []

    def handle_store(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    ae = AE("WORKSTATION")
    ae.add_requested_context(HangingProtocolInformationModelFind)
    ae.add_requested_context(HangingProtocolInformationModelGet)
    ae.add_requested_context(HangingProtocolStorage)
    # We send protocols by C-STORE, and receive them by C-GET: both roles.
    role = build_role(HangingProtocolStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_STORE, handle_store)]
    with ae.associate(host, port, ext_neg=[role], evt_handlers=handlers) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        assoc.send_c_store(new_protocol("Chest CT"))

        query = Dataset()
        query.HangingProtocolName = "Chest CT"
        query.SOPInstanceUID = ""
        responses = assoc.send_c_find(query, HangingProtocolInformationModelFind)
        uids = [match.SOPInstanceUID for _, match in responses if match is not None]

        request = Dataset()
        request.SOPInstanceUID = uids
        for status, _ in assoc.send_c_get(request, HangingProtocolInformationModelGet):
            print(f"0x{status.get('Status', 0):04X}")
    return received


if __name__ == "__main__":
    demonstrate()
