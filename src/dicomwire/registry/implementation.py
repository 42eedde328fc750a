"""The identity of this implementation in associations and in files.

It has only constants and imports no other module of ours, so that every module can import it.
"""

from __future__ import annotations

IMPLEMENTATION_CLASS_UID = "2.25.176487327387601940295154504736296321339"
"""(0002,0012) and the user information item of PS3.7 Section D.3.3.2; derived from a UUID as PS3.5
Section B.2 describes."""

UID_PREFIX = f"{IMPLEMENTATION_CLASS_UID}."
"""The prefix of UIDs that this implementation creates."""

IMPLEMENTATION_VERSION_NAME = "DICOMWIRE_010"
"""(0002,0013) and the user information item of PS3.7 Section D.3.3.2; at most 16 characters."""
