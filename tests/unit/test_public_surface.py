"""The names and call signatures that users of pynetdicom know, and where ours are others.

The names are in public_surface.txt. Each difference is intended, and listed here with its reason.
"""

from __future__ import annotations

from surface import differences, unexplained

OWN_IDENTITY = "We say who we are: IMPLEMENTATION_CLASS_UID and its like"
IMPORTED = "The module of pynetdicom merely imports it; it is where it is made"
INTERNAL = "A part of pynetdicom's inner works, which ours are not like"
MORE = "Can do more, by arguments that may be left out"
ONE_KIND_OF_PDU = (
    "The PDU is the primitive: AssociateRQ, AssociateAC, AssociateRJ, Abort and others"
)
ONE_MESSAGE = "One class, Message, for all DIMSE messages"
ENUM = "The service classes are the members of sop_class.Service"

INTENDED = {
    ":PYNETDICOM_*": OWN_IDENTITY,
    "dsutils:PYNETDICOM_*": OWN_IDENTITY,
    "dsutils:create_file_meta": OWN_IDENTITY,
    ":AE": "The default title is DICOMWIRE, and there are settings",
    "ae:ApplicationEntity": "The default title is DICOMWIRE, and there are settings",
    "ae:ApplicationEntity.associate": MORE,
    "ae:ApplicationEntity.start_server": MORE,
    ":Association": MORE,
    "association:Association": MORE,
    "dsutils:decode": MORE,
    "ae:ListCXType": IMPORTED,
    "association:*VR*Endian": IMPORTED,
    "association:DEFAULT_MAX_LENGTH": IMPORTED,
    "association:RepositoryQuery": IMPORTED,
    "association:STATUS_*": IMPORTED,
    "association:STORAGE_SERVICE_CLASS_STATUS": IMPORTED,
    "association:UnifiedProcedureStep*": IMPORTED,
    "pdu_primitives:OptionalUIDType": IMPORTED,
    "utils:copy_context": IMPORTED,
    "association:Association.acse": INTERNAL,
    "association:Association.daemon": "An association is no thread",
    "association:Association.dimse": INTERNAL,
    "association:Association.dul": INTERNAL,
    "association:Association.lock": INTERNAL,
    "association:Association.mode": "Which end we are does not change",
    "association:Association.request": INTERNAL,
    "association:Association.run_reactor": INTERNAL,
    "association:Association.set_socket": INTERNAL,
    "utils:HAVE_CTYPES": INTERNAL,
    "utils:make_target": INTERNAL,
    "utils:set_timer_resolution": INTERNAL,
    "pdu_primitives:*Negotiation": MORE,
    "pdu_primitives:*Notification": MORE,
    "pdu_primitives:*.from_primitive": INTERNAL,
    "pdu_primitives:ServiceParameter": "UserItem is what all items are",
    "pdu_primitives:A_*": ONE_KIND_OF_PDU,
    "pdu_primitives:P_DATA": ONE_KIND_OF_PDU,
    "dimse_primitives:*": ONE_MESSAGE,
    "service_class:": ENUM,
    "service_class_n:": ENUM,
}


def test_all_differences_are_intended() -> None:
    assert unexplained(differences("dicomwire"), INTENDED) == {}
