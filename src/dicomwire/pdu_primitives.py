"""The items of extended negotiation, which programs create, and the PDUs that events show them.

One class represents both a PDU and its service primitive. `protocol.items` and `protocol.pdu`
define the classes.
"""

from __future__ import annotations

from dicomwire.protocol.items import DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation as AsynchronousOperationsWindowNegotiation,
)
from dicomwire.protocol.items import (
    ImplementationClassUIDNotification as ImplementationClassUIDNotification,
)
from dicomwire.protocol.items import (
    ImplementationVersionNameNotification as ImplementationVersionNameNotification,
)
from dicomwire.protocol.items import MaximumLengthNotification as MaximumLengthNotification
from dicomwire.protocol.items import (
    SCP_SCU_RoleSelectionNegotiation as SCP_SCU_RoleSelectionNegotiation,
)
from dicomwire.protocol.items import (
    SOPClassCommonExtendedNegotiation as SOPClassCommonExtendedNegotiation,
)
from dicomwire.protocol.items import SOPClassExtendedNegotiation as SOPClassExtendedNegotiation
from dicomwire.protocol.items import UserIdentityNegotiation as UserIdentityNegotiation
from dicomwire.protocol.items import UserItem as UserItem
from dicomwire.protocol.pdu import PDU as PDU
from dicomwire.protocol.pdu import Abort as Abort
from dicomwire.protocol.pdu import AssociateAC as AssociateAC
from dicomwire.protocol.pdu import AssociateRJ as AssociateRJ
from dicomwire.protocol.pdu import AssociateRQ as AssociateRQ
from dicomwire.protocol.pdu import PDataTF as PDataTF
from dicomwire.protocol.pdu import ReleaseRP as ReleaseRP
from dicomwire.protocol.pdu import ReleaseRQ as ReleaseRQ
