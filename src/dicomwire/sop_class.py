"""The SOP classes by keyword, and which service class a UID belongs to.

The UIDs are in tables.py, and what the services do is in services/.
"""

from __future__ import annotations

import re
from keyword import iskeyword

from pydicom.config import IGNORE

from dicomwire.registry.services import REGISTRY, define
from dicomwire.registry.services import Service as Service
from dicomwire.registry.services import SOPClass as SOPClass
from dicomwire.registry.tables import *  # noqa: F403

_OPERATIONS = ("C-FIND", "C-GET", "C-MOVE")


def uid_to_service_class(uid: str) -> Service:
    """The service class of a SOP class, and of any other UID `Service.UNKNOWN`."""
    entry = REGISTRY.get(uid)
    return entry.service if entry is not None else Service.UNKNOWN


def uid_to_sop_class(uid: str) -> SOPClass:
    """`uid` as a SOPClass, known or not."""
    entry = REGISTRY.get(uid)
    return entry.sop_class if entry is not None else SOPClass(uid, IGNORE)


def register_uid(uid: str, keyword: str, service_class: Service, dimse_msg_type: str = "") -> None:
    """Make a private SOP class, or one newer than this library, known to its service.

    Afterwards ``dicomwire.sop_class.<keyword>`` is the SOP class.

    Parameters
    ----------
    uid : str
        Up to 64 digits and periods. Components with leading zeros are let pass, as there are
        devices that use them. If the UID is known, the new definition replaces the old.
    keyword : str
        A Python identifier that means nothing else in this module.
    service_class : Service
        The service class that is to handle messages of the SOP class.
    dimse_msg_type : str
        "C-FIND", "C-GET" or "C-MOVE", required for `Service.QUERY_RETRIEVE`.

    Raises
    ------
    ValueError
        If `uid`, `keyword` or `dimse_msg_type` is not as described.
    TypeError
        If `service_class` is not a Service.
    """
    if not re.fullmatch(r"[0-9.]{1,64}", uid):
        raise ValueError(f"A UID has 1 to 64 digits and periods, unlike {uid!r}")
    if not keyword.isidentifier() or iskeyword(keyword):
        raise ValueError(f"A keyword is a Python identifier, unlike {keyword!r}")
    names = globals()
    if names.get(keyword, uid) != uid:
        raise ValueError(f"The keyword {keyword!r} is taken")
    if not isinstance(service_class, Service):
        raise TypeError(f"A service class is a Service such as Service.STORAGE: {service_class!r}")
    if service_class is Service.QUERY_RETRIEVE and dimse_msg_type not in _OPERATIONS:
        raise ValueError(f"Query/Retrieve is {', '.join(_OPERATIONS)}: {dimse_msg_type!r}")
    names[keyword] = define(uid, service_class, dimse_msg_type, keyword=keyword, name=keyword)
