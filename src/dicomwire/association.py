"""The association of the threaded face, under the name that programs import.

`threaded.association` defines it.
"""

from dicomwire.session.base import ReceiveTo as ReceiveTo
from dicomwire.session.ends import MODE_ACCEPTOR as MODE_ACCEPTOR
from dicomwire.session.ends import MODE_REQUESTOR as MODE_REQUESTOR
from dicomwire.session.ends import ServiceUser as ServiceUser
from dicomwire.sop_class import Verification as Verification
from dicomwire.threaded.association import Association as Association
