"""The SOP classes by keyword, and the service class of each UID.

`registry.tables` has the UIDs; the modules of `services` implement the services.
"""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import Any

from pydicom.config import IGNORE
from pydicom.uid import UID as _UID

from dicomwire.registry import services as _services
from dicomwire.registry import tables as _tables
from dicomwire.registry.services import REGISTRY, define
from dicomwire.registry.services import Service as Service
from dicomwire.registry.tables import *  # noqa: F403
from dicomwire.registry.uids import use_pydicom

use_pydicom()

_OPERATIONS = ("C-FIND", "C-GET", "C-MOVE")


class SOPClass(_services.SOPClass, _UID):
    """The UID of a SOP class."""

    @property
    def keyword(self) -> str:
        """The keyword in PS3.6, or the registered keyword."""
        entry = REGISTRY.get(self)
        return super().keyword or (entry.keyword if entry is not None else "")

    @property
    def name(self) -> str:
        """The name in PS3.6, or the registered name, or the UID if there is neither."""
        name = super().name
        entry = REGISTRY.get(self)
        return name if entry is None or name != self else entry.name or name


def _published(uid: str) -> SOPClass:
    """Replace the text of a SOP class in the registry by a UID of pydicom, and return it."""
    sop_class = SOPClass(uid, IGNORE)
    REGISTRY[uid] = REGISTRY[uid]._replace(sop_class=sop_class)
    return sop_class


def _publish_tables() -> None:
    """Replace the texts of `tables` in this module by UIDs of pydicom."""
    published = {uid: _published(uid) for uid in [*REGISTRY]}
    names: dict[str, Any] = globals()
    for name in vars(_tables):
        value = names.get(name)
        if isinstance(value, str) and not name.startswith("_"):
            names[name] = published.get(value) or _UID(value, IGNORE)


_publish_tables()

uid_to_service_class = _services.service_of
"""Returns the service class of a SOP class; `Service.UNKNOWN` for any other UID."""


def uid_to_sop_class(uid: str) -> SOPClass:
    """Return `uid` as a SOPClass, whether it is registered or not."""
    known = _services.sop_class_of(uid)
    return known if isinstance(known, SOPClass) else SOPClass(uid, IGNORE)


def register_uid(uid: str, keyword: str, service_class: Service, dimse_msg_type: str = "") -> None:
    """Register a private SOP class, or one newer than this library, with its service class.

    Afterwards ``dicomwire.sop_class.<keyword>`` is the SOP class.

    Parameters
    ----------
    uid : str
        1 to 64 digits and periods. Components may have leading zeros, because some devices use
        such UIDs. If the UID is registered already, the new definition replaces the old one.
    keyword : str
        A Python identifier that this module does not use for anything else.
    service_class : Service
        The service class that handles messages of the SOP class.
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
        raise ValueError(f"A UID must have 1 to 64 digits and periods, not {uid!r}")
    if not keyword.isidentifier() or iskeyword(keyword):
        raise ValueError(f"A keyword must be a Python identifier, not {keyword!r}")
    names = globals()
    if names.get(keyword, uid) != uid:
        raise ValueError(f"The keyword {keyword!r} is in use already")
    if not isinstance(service_class, Service):
        raise TypeError(f"A service class must be a Service, not {service_class!r}")
    if service_class is Service.QUERY_RETRIEVE and dimse_msg_type not in _OPERATIONS:
        choice = ", ".join(_OPERATIONS)
        raise ValueError(f"dimse_msg_type must be one of {choice}, not {dimse_msg_type!r}")
    define(uid, service_class, dimse_msg_type, keyword=keyword, name=keyword)
    names[keyword] = _published(uid)
