"""Reports the displays of a workstation (Display System Management)."""

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import DisplaySystem, DisplaySystemInstance


def display_system() -> Dataset:
    """Return the workstation's displays; a real program asks the hardware."""
    display = Dataset()
    display.DisplaySubsystemID = 1
    display.DisplaySubsystemName = "Left"
    display.DisplaySubsystemDescription = "Grayscale, 5 megapixels"
    system = Dataset()
    system.Manufacturer = "Example"
    system.ManufacturerModelName = "Reading station"
    system.InstitutionName = "Hospital"
    system.EquipmentAdministratorSequence = []
    system.NumberOfDisplaySubsystems = 1
    system.DisplaySubsystemSequence = [display]
    return system


def handle_get(event: evt.Event) -> tuple[int, Dataset | None]:
    """Return the requested attributes, or all if the request names none."""
    if event.request.RequestedSOPInstanceUID != DisplaySystemInstance:
        return 0x0112, None  # No such SOP instance
    system = display_system()
    asked = event.attribute_identifiers
    if not asked:
        return 0x0000, system
    reply = Dataset()
    reply.update({tag: system[tag] for tag in asked if tag in system})
    if len(reply) < len(asked):
        return 0x0107, reply  # Warning: attributes not recognized
    return 0x0000, reply


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("DISPLAYSCP")
    ae.add_supported_context(DisplaySystem)
    handlers = [(evt.EVT_N_GET, handle_get)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
