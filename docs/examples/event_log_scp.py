"""Keeps a log of the events of procedures (Application Event Logging)."""

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import ProceduralEventLogging, SubstanceAdministrationLogging

LOG: list[tuple[str, Dataset]] = []  # AE title and entry


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Write an entry; both SOP classes have only the action type 1."""
    if event.action_type != 1:
        return 0x0123, None  # No such action type
    entry = event.action_information
    if not entry.get("PatientID"):
        return 0xC110, None  # Patient cannot be identified
    LOG.append((event.assoc.requestor.ae_title, entry))
    return 0x0000, None


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("LOGSCP")
    ae.add_supported_context(ProceduralEventLogging)
    ae.add_supported_context(SubstanceAdministrationLogging)
    handlers = [(evt.EVT_N_ACTION, handle_action)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
