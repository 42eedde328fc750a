"""The application entity of the threaded face, under the name that programs import.

`threaded.ae` defines it.
"""

from dicomwire.protocol.items import DEFAULT_MAX_LENGTH as DEFAULT_MAX_LENGTH
from dicomwire.registry.uids import use_pydicom
from dicomwire.session.ends import MODE_REQUESTOR as MODE_REQUESTOR
from dicomwire.threaded.ae import AE as AE
from dicomwire.threaded.ae import ApplicationEntity as ApplicationEntity

use_pydicom()  # a program that makes an AE expects pydicom's UIDs
