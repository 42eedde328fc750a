"""The names and call signatures of pynetdicom, and which of them the drop-in has otherwise."""

from __future__ import annotations

import json
from pathlib import Path

SURFACE = Path(__file__).resolve().parents[1] / "unit" / "surface.py"

IDENTITY = "We say on the wire who we are"
IMPORTED = "The module of pynetdicom merely imports it; it is where it is made"
INTERNAL = "A part of pynetdicom's inner works, which dicomwire's are not like"
MORE = "Can do more, by arguments that may be left out"
NAMES_ONLY = "Service classes are names to register SOP classes with, and serve nothing themselves"

INTENDED = {
    ":PYNETDICOM_*": IDENTITY,
    "dsutils:PYNETDICOM_*": IDENTITY,
    "dsutils:create_file_meta": IDENTITY,
    ":Association": MORE,
    "ae:ApplicationEntity.start_server": MORE,
    "association:Association": MORE,
    "association:Association.acse": INTERNAL,
    "association:Association.dimse": INTERNAL,
    "association:Association.dul": INTERNAL,
    "association:Association.lock": INTERNAL,
    "association:Association.mode": "Which end we are does not change",
    "association:Association.request": INTERNAL,
    "association:Association.run_reactor": INTERNAL,
    "association:Association.set_socket": INTERNAL,
    "association:RepositoryQuery": IMPORTED,
    "association:STATUS_*": IMPORTED,
    "association:STORAGE_SERVICE_CLASS_STATUS": IMPORTED,
    "association:UnifiedProcedureStep*": IMPORTED,
    "association:Verification": IMPORTED,
    "pdu_primitives:A_*": MORE,
    "pdu_primitives:P_DATA": MORE,
    "pdu_primitives:*Negotiation": MORE,
    "pdu_primitives:*Notification": MORE,
    "pdu_primitives:*.from_primitive": INTERNAL,
    "pdu_primitives:ServiceParameter": "The union of the items, for isinstance",
    "service_class:*Class": NAMES_ONLY,
    "service_class:ServiceClass.*": NAMES_ONLY,
    "service_class:attempt": INTERNAL,
    "service_class_n:*Class": NAMES_ONLY,
}


def test_all_differences_are_intended(drop_in, monkeypatch):
    monkeypatch.syspath_prepend(SURFACE.parent)
    from surface import unexplained

    found = json.loads(drop_in.run(SURFACE, "pynetdicom"))
    assert unexplained(found, INTENDED) == {}
