"""DICOM in asyncio programs: the same names as in `dicomwire`, awaited.

How it is done lives in the modules of this package.
"""

from __future__ import annotations

from dicomwire.aio.ae import AE, ApplicationEntity
from dicomwire.aio.association import Association
from dicomwire.aio.processes import SupervisedServer
from dicomwire.aio.responses import Responses, Sending
from dicomwire.aio.sending import SendMany, send_many
from dicomwire.aio.server import AssociationServer

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
