"""The ledger of sent objects, under the name that programs import.

`bulk.ledger` defines it.
"""

from __future__ import annotations

from dicomwire.bulk.ledger import Ledger as Ledger
from dicomwire.bulk.ledger import LedgerError as LedgerError
