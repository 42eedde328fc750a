"""Asks an archive for an inventory of its contents, and retrieves it."""

import queue

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, build_role, evt
from dicomwire.sop_class import (
    InventoryCreation,
    InventoryFind,
    InventoryGet,
    InventoryStorage,
    StorageManagementInstance,
)

INITIATE = 11


def take_inventory(host: str = "127.0.0.1", port: int = 11112, wait: float = 30) -> Dataset:
    """Return an inventory of all studies."""
    reports: queue.Queue[Dataset] = queue.Queue()
    received = []

    def handle_report(event: evt.Event) -> tuple[int, Dataset | None]:
        reports.put(event.event_information)
        return 0x0000, None

    def handle_store(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0x0000

    request = Dataset()
    request.TransactionUID = generate_uid()
    request.InventoryLevel = "STUDY"
    request.ScopeOfInventorySequence = []  # everything

    ae = AE("AUDITOR")
    for sop_class in (InventoryCreation, InventoryFind, InventoryGet, InventoryStorage):
        ae.add_requested_context(sop_class)
    role = build_role(InventoryStorage, scp_role=True)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_N_EVENT_REPORT, handle_report),
        (evt.EVT_C_STORE, handle_store),
    ]
    with ae.associate(host, port, ext_neg=[role], evt_handlers=handlers) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        status, _ = assoc.send_n_action(
            request, INITIATE, InventoryCreation, StorageManagementInstance
        )
        if status.get("Status") != 0x0000:
            raise SystemExit(f"No inventory: {status or assoc.failure}")
        report = reports.get(timeout=wait)

        wanted = Dataset()
        wanted.SOPInstanceUID = report.ReferencedSOPInstanceUID
        for status, _ in assoc.send_c_get(wanted, InventoryGet):
            print(f"0x{status.get('Status', 0):04X}")
    return received[0]


if __name__ == "__main__":
    print(take_inventory())
