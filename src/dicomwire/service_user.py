"""The two ends of an association, under the name that programs import.

They are made in `session.ends`.
"""

from __future__ import annotations

from dicomwire.session.ends import MODE_ACCEPTOR as MODE_ACCEPTOR
from dicomwire.session.ends import MODE_REQUESTOR as MODE_REQUESTOR
from dicomwire.session.ends import AddressInformation as AddressInformation
from dicomwire.session.ends import ServiceUser as ServiceUser
