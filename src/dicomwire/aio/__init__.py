"""DICOM for asyncio programs: the names of `dicomwire`, with methods that are awaited.

The modules of this package implement them.
"""

from __future__ import annotations

from dicomwire.aio.ae import AE as AE
from dicomwire.aio.ae import ApplicationEntity as ApplicationEntity
from dicomwire.aio.association import Association as Association
from dicomwire.aio.bulk import SendMany as SendMany
from dicomwire.aio.bulk import send_many as send_many
from dicomwire.aio.iterators import Responses as Responses
from dicomwire.aio.iterators import Sending as Sending
from dicomwire.aio.server import AssociationServer as AssociationServer
from dicomwire.aio.worker import SupervisedServer as SupervisedServer
from dicomwire.registry.uids import use_pydicom

use_pydicom()
