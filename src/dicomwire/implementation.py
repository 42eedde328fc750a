"""Who we are on the wire and in the files we write.

Only constants live here, and never anything that another module of ours would have to supply.
"""

from __future__ import annotations

from pydicom.uid import UID

IMPLEMENTATION_CLASS_UID = UID("2.25.176487327387601940295154504736296321339")
"""(0002,0012) and the user information item of PS3.7 Section D.3.3.2, made from a UUID as
PS3.5 Section B.2 has it."""

UID_PREFIX = f"{IMPLEMENTATION_CLASS_UID}."
"""What UIDs that we make may begin with."""

IMPLEMENTATION_VERSION_NAME = "DICOMWIRE_010"
"""(0002,0013) and the user information item of PS3.7 Section D.3.3.2; at most 16 characters."""
