"""Queries the displays of a workstation (Display System Management)."""

from pydicom import Dataset
from pydicom.tag import Tag

from dicomwire import AE
from dicomwire.sop_class import DisplaySystem, DisplaySystemInstance


def ask(*keywords: str, host: str = "127.0.0.1", port: int = 11112) -> Dataset:
    """Return attributes of the display system, or all if no keyword is given."""
    ae = AE("DISPLAYSCU")
    ae.add_requested_context(DisplaySystem)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        tags = [Tag(keyword) for keyword in keywords]
        status, attributes = assoc.send_n_get(tags, DisplaySystem, DisplaySystemInstance)
    if attributes is None:
        raise SystemExit(f"No attributes: {status or assoc.failure}")
    return attributes


if __name__ == "__main__":
    print(ask("Manufacturer", "DisplaySubsystemSequence"))
