"""DICOM for asyncio programs: the names of `dicomwire`, with methods that are awaited.

The modules of this package implement them.
"""

from __future__ import annotations

from dicomwire.aio.ae import AE, ApplicationEntity
from dicomwire.aio.association import Association
from dicomwire.aio.bulk import SendMany, send_many
from dicomwire.aio.iterators import Responses, Sending
from dicomwire.aio.server import AssociationServer
from dicomwire.aio.worker import SupervisedServer
from dicomwire.registry.uids import use_pydicom

use_pydicom()

__all__ = [
    "AE",
    "ApplicationEntity",
    "Association",
    "AssociationServer",
    "Responses",
    "SendMany",
    "Sending",
    "SupervisedServer",
    "send_many",
]
