"""The services and their SOP classes, under the name that programs import.

`sop_class` defines them.
"""

from __future__ import annotations

from dicomwire.sop_class import Service as Service
from dicomwire.sop_class import SOPClass as SOPClass
