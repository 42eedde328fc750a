"""UIDs are those of pydicom in tests of the core, as programs have them."""

from __future__ import annotations

from dicomwire.registry.uids import use_pydicom

use_pydicom()
