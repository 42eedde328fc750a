"""Sending many objects to one peer, without pydicom: the same names as in `dicomwire`.

Nothing is made here.
"""

from __future__ import annotations

from dicomwire.bulk.ledger import LedgerError as LedgerError
from dicomwire.bulk.pipeline import Sent as Sent
from dicomwire.threaded.bulk import send_many as send_many
