"""Makes inventories of an archive, and sends them (Inventory Creation and Q/R)."""

import threading
from collections.abc import Iterator
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicomwire import AE, Association, AssociationServer, evt
from dicomwire.sop_class import (
    InventoryCreation,
    InventoryFind,
    InventoryGet,
    InventoryStorage,
    StorageManagementInstance,
)

INITIATE = 11
TERMINATED_WITH_INSTANCES = 11
INVENTORIES: dict[str, Dataset] = {}


def new_inventory(level: str) -> Dataset:
    """Return an inventory; a real one has a record for each study."""
    inventory = Dataset()
    inventory.SOPClassUID = InventoryStorage
    inventory.SOPInstanceUID = generate_uid()
    inventory.InventoryLevel = level
    inventory.InventoryCompletionStatus = "COMPLETE"
    inventory.TotalNumberOfStudyRecords = 0
    inventory.InventoriedStudiesSequence = []
    inventory.file_meta = FileMetaDataset()
    inventory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return inventory


def produce(assoc: Association, request: Dataset) -> None:
    """Make the inventory, and report that it is ready."""
    inventory = new_inventory(request.InventoryLevel)
    INVENTORIES[inventory.SOPInstanceUID] = inventory
    done = Dataset()
    done.TransactionUID = request.TransactionUID
    done.TransactionStatus = "COMPLETE"
    done.ReferencedSOPClassUID = InventoryStorage
    done.ReferencedSOPInstanceUID = inventory.SOPInstanceUID
    done.RetrieveAETitle = "INVENTORYSCP"
    done.TotalNumberOfStudyRecords = inventory.TotalNumberOfStudyRecords
    assoc.send_n_event_report(
        done, TERMINATED_WITH_INSTANCES, InventoryCreation, StorageManagementInstance
    )


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Start an inventory; types 12 to 15 (status, cancel, pause, resume) are left out."""
    if event.action_type != INITIATE:
        return 0x0123, None  # No such action type
    threading.Thread(target=produce, args=(event.assoc, event.action_information)).start()
    return 0x0000, None


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """List the inventories."""
    for inventory in list(INVENTORIES.values()):
        match = Dataset()
        match.SOPInstanceUID = inventory.SOPInstanceUID
        match.InventoryLevel = inventory.InventoryLevel
        match.InventoryCompletionStatus = inventory.InventoryCompletionStatus
        yield 0xFF00, match


def handle_get(event: evt.Event) -> Iterator[Any]:
    """Send an inventory."""
    inventory = INVENTORIES.get(event.identifier.SOPInstanceUID)
    yield 0 if inventory is None else 1
    if inventory is not None:
        yield 0xFF00, inventory


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("INVENTORYSCP")
    ae.add_supported_context(InventoryCreation)
    ae.add_supported_context(InventoryFind)
    ae.add_supported_context(InventoryGet)
    ae.add_supported_context(InventoryStorage, scu_role=False, scp_role=True)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_N_ACTION, handle_action),
        (evt.EVT_C_FIND, handle_find),
        (evt.EVT_C_GET, handle_get),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
