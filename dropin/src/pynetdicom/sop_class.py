"""The SOP classes by keyword, and the classes of `service_class` that they belong to."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.config import IGNORE

from dicomwire import sop_class as _sop_class
from dicomwire.sop_class import *
from pynetdicom import service_class_n  # it has subclasses, too
from pynetdicom.service_class import ServiceClass, StorageServiceClass


def _and_below(service_class: type[ServiceClass]) -> Iterator[type[ServiceClass]]:
    yield service_class
    for each in service_class.__subclasses__():
        yield from _and_below(each)


_SERVICE_CLASSES = {each.service: each for each in _and_below(ServiceClass)}


def _service_class_of(uid: str) -> type[ServiceClass]:
    return _SERVICE_CLASSES.get(_sop_class.uid_to_service_class(uid), ServiceClass)


class SOPClass(_sop_class.SOPClass):
    """The UID of a SOP class."""

    @property
    def service_class(self) -> type[ServiceClass]:
        """The service class that the SOP class belongs to."""
        return _service_class_of(self)


def uid_to_service_class(uid: str) -> type[ServiceClass]:
    """The service class of a SOP class, or with a UID; of any other `ServiceClass` itself."""
    return StorageServiceClass if uid == StorageServiceClass.uid else _service_class_of(uid)


def uid_to_sop_class(uid: str) -> SOPClass:
    """`uid` as a SOPClass, known or not."""
    return SOPClass(uid, IGNORE)


def register_uid(
    uid: str,
    keyword: str,
    service_class: type[ServiceClass] | _sop_class.Service,
    dimse_msg_type: str = "",
) -> None:
    """Make a SOP class known to its service; see `dicomwire.register_uid`.

    Afterwards ``pynetdicom.sop_class.<keyword>`` is the SOP class.
    """
    if hasattr(service_class, "SCP"):
        raise TypeError("a service class with an SCP of its own is not supported: bind handlers")
    if not isinstance(service_class, _sop_class.Service):
        service_class = service_class.service
    _sop_class.register_uid(uid, keyword, service_class, dimse_msg_type)
    globals()[keyword] = uid_to_sop_class(uid)


globals().update(
    (keyword, uid_to_sop_class(uid))
    for keyword, uid in vars(_sop_class).items()
    if isinstance(uid, _sop_class.SOPClass)
)
