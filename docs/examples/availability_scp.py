"""Receives notifications about the availability of objects (Instance Availability)."""

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import InstanceAvailabilityNotification

AVAILABLE: dict[str, str] = {}  # ONLINE, NEARLINE, OFFLINE or UNAVAILABLE, by UID


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """Store the availability of each object."""
    for series in event.attribute_list.ReferencedSeriesSequence:
        for instance in series.ReferencedSOPSequence:
            AVAILABLE[instance.ReferencedSOPInstanceUID] = instance.InstanceAvailability
    return 0x0000, None


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("AVAILABLESCP")
    ae.add_supported_context(InstanceAvailabilityNotification)
    handlers = [(evt.EVT_N_CREATE, handle_create)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
