"""The ceilings that keep a peer from choosing how much memory we use.

A length field never allocates by itself: it is compared with one of these first.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for what one association may make us hold, in bytes unless said otherwise."""

    associate_pdu: int = MIB
    """An A-ASSOCIATE-RQ or -AC PDU; requests of 17 KB are normal."""
    control_pdu: int = 64 * KIB
    """Any other PDU but P-DATA-TF, whose data streams and needs no ceiling."""
    command_set: int = 256 * KIB
    """A command set, over all of its fragments."""
    identifier: int = 64 * MIB
    """A dataset that is held in memory: identifiers, N-service datasets; inflated, if it comes
    deflated."""
    dataset_items: int = 100_000
    """Items of sequences in one dataset, on all levels (count). Objects of C-STORE may have more:
    one for each 24 bytes received."""
    dataset_elements: int = 200_000
    """Elements in one dataset, on all levels (count). Objects of C-STORE may have more: one for
    each 12 bytes received."""
    contexts: int = 128
    """Presentation contexts in one request (their ids are the odd numbers below 256)."""
    transfer_syntaxes: int = 256
    """Transfer syntaxes proposed for one presentation context (count)."""
    items: int = 2048
    """User information sub-items in one request (count)."""
