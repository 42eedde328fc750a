"""The limits on the memory that a peer can make us use.

A received length is compared with one of these limits before memory is allocated for it.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for the data of one peer, in bytes unless stated otherwise."""

    associate_pdu: int = MIB
    """An A-ASSOCIATE-RQ or -AC PDU. Requests of 17 KB are common."""
    control_pdu: int = 64 * KIB
    """Any other PDU except P-DATA-TF, which is passed on in pieces and needs no limit."""
    command_set: int = 256 * KIB
    """A command set, all of its fragments together."""
    identifier: int = 64 * MIB
    """A dataset that must be in memory (identifiers, datasets of N-services), after inflating."""
    dataset_items: int = 100_000
    """Sequence items in one dataset, on all levels (count). A C-STORE dataset may have more: one
    for each 24 bytes received."""
    dataset_elements: int = 200_000
    """Elements in one dataset, on all levels (count). A C-STORE dataset may have more: one for
    each 12 bytes received."""
    contexts: int = 128
    """Presentation contexts in one request (count); their IDs are the odd numbers below 256."""
    transfer_syntaxes: int = 256
    """Transfer syntaxes proposed for one presentation context (count)."""
    items: int = 2048
    """User information sub-items in one request (count)."""
