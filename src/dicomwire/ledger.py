"""The ledger of sent objects, under the name that programs import.

It is made in `bulk.ledger`.
"""

from __future__ import annotations

from dicomwire.bulk.ledger import Ledger as Ledger
from dicomwire.bulk.ledger import LedgerError as LedgerError
