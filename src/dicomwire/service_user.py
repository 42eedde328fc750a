"""The requestor and the acceptor of an association, under the name that programs import.

`session.ends` defines their class.
"""

from __future__ import annotations

from dicomwire.session.ends import MODE_ACCEPTOR as MODE_ACCEPTOR
from dicomwire.session.ends import MODE_REQUESTOR as MODE_REQUESTOR
from dicomwire.session.ends import AddressInformation as AddressInformation
from dicomwire.session.ends import ServiceUser as ServiceUser
