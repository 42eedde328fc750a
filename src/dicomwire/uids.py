"""The services and their SOP classes, under the name that programs import.

`registry.services` defines them.
"""

from __future__ import annotations

from dicomwire.registry.services import Service as Service
from dicomwire.registry.services import SOPClass as SOPClass
