"""How earlier association requests were answered, for peers that ask the same again and again.

`acceptance` negotiates; this module finds the result of an earlier, equal request. Nothing here is
ever changed: associations copy what a program looks at.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from dicomwire import events as evt
from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import MaximumLengthNotification, UserIdentityNegotiation
from dicomwire.protocol.pdu import AssociateAC, AssociateRQ

_SEEN: tuple[evt.EventType, ...] = (
    evt.EVT_CONN_CLOSE,
    evt.EVT_ACSE_RECV,
    evt.EVT_ACSE_SENT,
    evt.EVT_DATA_RECV,
    evt.EVT_DATA_SENT,
    evt.EVT_PDU_RECV,
    evt.EVT_PDU_SENT,
    evt.EVT_FSM_TRANSITION,
)
BEGINNING: frozenset[evt.EventType] = frozenset(
    (
        *_SEEN,
        evt.EVT_CONN_OPEN,
        evt.EVT_REQUESTED,
        evt.EVT_USER_ID,
        evt.EVT_ASYNC_OPS,
        evt.EVT_SOP_EXTENDED,
        evt.EVT_SOP_COMMON,
        evt.EVT_ACCEPTED,
        evt.EVT_ESTABLISHED,
    )
)
"""Events of an association's beginning: with a handler for one, each request is negotiated."""
RELEASE: frozenset[evt.EventType] = frozenset((*_SEEN, evt.EVT_RELEASED))
"""Events of a release by the peer."""

_LONGEST = 16 * 1024
"""Bytes of the longest request that is remembered: 128 contexts with three syntaxes each."""
_LONGEST_ANSWER = 8 * 1024
"""Bytes of the longest answer; a new socket takes so many at once."""
_MOST = 64
"""Requests that are remembered. Peers choose them, and each may take some 100 KB."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A request, and how it was accepted.

    Attributes
    ----------
    encoded : bytes
        The A-ASSOCIATE-AC.
    called_ae_title : str
        The title of our end.
    supported : list of PresentationContext
        The contexts that were supported.
    accepted_ids : frozenset of int
        The ids of the accepted contexts.
    maximum_length : int
        The longest P-DATA-TF that the peer accepts, in bytes; 0 for no maximum.
    """

    request: AssociateRQ
    answer: AssociateAC
    encoded: bytes
    called_ae_title: str
    supported: list[PresentationContext]
    accepted_ids: frozenset[int]
    maximum_length: int

    @classmethod
    def of(
        cls,
        request: AssociateRQ,
        answer: AssociateAC,
        called_ae_title: str,
        supported: list[PresentationContext],
    ) -> Agreement:
        """Return the agreement, with copies of the PDUs."""
        length = request.user_item(MaximumLengthNotification)
        return cls(
            request.copied(),
            answer.copied(),
            answer.encode(),
            called_ae_title,
            [*supported],
            frozenset(
                context.context_id
                for context in answer.presentation_contexts
                if context.result == Result.ACCEPTANCE and context.context_id is not None
            ),
            length.maximum_length_received if length is not None else 0,
        )


class Agreements:
    """The agreements of one server, by the bytes of the request."""

    def __init__(self) -> None:
        # Guards the two fields against two changes at once; no lock is taken under it.
        self._lock = threading.Lock()
        self._terms: object = None  # what the server supported when they were made
        self._known: dict[bytes, Agreement] = {}  # the oldest first

    def find(self, received: bytes, terms: object) -> Agreement | None:
        """Return how the request was accepted before, under the same `terms`; None if it was not.

        `terms` is all on which the answer depends besides the request.
        """
        agreement = self._known.get(received)
        return agreement if agreement is not None and self._terms == terms else None

    def keep(self, received: bytes, terms: object, agreement: Agreement) -> None:
        """Remember an agreement, unless it is too long, or holds the passcode of a user."""
        request = agreement.request
        if len(received) > _LONGEST or len(agreement.encoded) > _LONGEST_ANSWER:
            return
        if request.user_item(UserIdentityNegotiation) is not None:
            return
        if any(context.result is not None for context in request.presentation_contexts):
            return  # invalid contexts are logged for each request
        with self._lock:
            if self._terms != terms:
                self._terms, self._known = terms, {}
            elif len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[received] = agreement
