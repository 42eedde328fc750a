"""A pynetdicom server for benchmarks: it keeps the bytes as they came, or forgets them.

scp.py PORT PDU [FOLDER]
"""

import sys
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

VERIFICATION = "1.2.840.10008.1.1"
STORED = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7.3")
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def keep(event: Any, folder: Path) -> int:
    path = folder / f"X.{event.request.AffectedSOPInstanceUID}"
    path.write_bytes(event.encoded_dataset())
    return 0x0000


def forget(event: Any) -> int:
    return 0x0000


if __name__ == "__main__":
    port, pdu, *folder = sys.argv[1:]
    ae = AE()
    ae.maximum_pdu_size = int(pdu)
    ae.maximum_associations = 100
    ae.add_supported_context(VERIFICATION)
    for sop_class in STORED:
        ae.add_supported_context(sop_class, EXPLICIT_LITTLE_ENDIAN)
    handler = (evt.EVT_C_STORE, keep, [Path(folder[0])]) if folder else (evt.EVT_C_STORE, forget)
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=[handler])
