"""C-GET and C-MOVE of a node: what is sent, in which transfer syntax, and where to (PS3.4 C.4).

Files go as they are stored; only for a peer that does not accept that, they are converted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import Association, build_context, evt
from dicomwire.data.codec import is_uncompressed
from dicomwire.logs import escaped
from dicomwire.node.converters import Converters
from dicomwire.node.query import Found
from dicomwire.node.storage import is_missing
from dicomwire.node.transcode import CannotTranscode, choose, transcoded
from dicomwire.presentation import PresentationContext

LOGGER = logging.getLogger("dicomwire.node")

MOST_CONTEXTS = 128
"""Of an association (PS3.8 Section 9.3.2.2)."""
_PENDING = 0xFF00
_SUCCESS = 0x0000
LONGEST_COMMENT = 64
"""Of an ErrorComment, which is of VR LO."""
_FALLBACK = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

Syntaxes = dict[str, dict[str, None]]
"""The transfer syntaxes that were accepted, by SOP class."""


def contexts_for(found: list[Found]) -> list[PresentationContext]:
    """Return what to propose so that each of `found` can go in its own transfer syntax.

    There is one context for each SOP class and transfer syntax, the most frequent first, and as far
    as there is room one for each SOP class that a receiver which takes no compression can accept.
    """
    pairs = Counter((each.sop_class_uid, each.transfer_syntax_uid) for each in found)
    proposed = [build_context(*pair) for pair, _ in pairs.most_common(MOST_CONTEXTS)]
    for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs):
        if len(proposed) < MOST_CONTEXTS:
            missing = [each for each in _FALLBACK if (sop_class, each) not in pairs]
            if missing:
                proposed.append(build_context(sop_class, [*missing]))
    return proposed


def accepted_by(association: Association) -> Syntaxes:
    """Return what may be sent on an association, on which we are the SCU of storage."""
    accepted: Syntaxes = {}
    for context in association.accepted_contexts:
        if context.as_scu:
            own = accepted.setdefault(str(context.abstract_syntax), {})
            own[context.transfer_syntax[0]] = None
    return accepted


class Destined:
    """Learns what the destination of a C-MOVE accepts, once it is associated with.

    Attributes
    ----------
    accepted : dict
        See `accepted_by`; empty before.
    """

    def __init__(self) -> None:
        self.accepted: Syntaxes = {}

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        """For `AE.associate`."""
        return [(evt.EVT_ACCEPTED, self._learn)]

    def _learn(self, event: evt.Event) -> None:
        self.accepted = accepted_by(event.assoc)


def sub_operations(
    found: list[Found], accepted: Callable[[], Syntaxes], converters: Converters
) -> Iterator[Any]:
    """Yield what the handler of C-GET or C-MOVE is to yield from the count on.

    For what cannot be sent, a dataset is yielded that cannot be sent either: the library counts it
    as failed, and lists it. The last status tells a reason.
    """
    yield len(found)
    reasons: Counter[str] = Counter()
    for each in found:
        with ExitStack() as until_sent:
            try:
                value = _sendable(each, accepted(), converters, until_sent)
            except CannotTranscode as error:
                LOGGER.warning("%s cannot be sent: %s", escaped(each.sop_instance_uid), error)
                reasons[str(error)] += 1
                value = _named(each)
            yield _PENDING, value
    yield _conclusion(reasons), None


def _sendable(
    found: Found, accepted: Syntaxes, converters: Converters, until_sent: ExitStack
) -> Path | Dataset:
    """Return the file as it is stored, or its object in a transfer syntax that was accepted.

    A converted object may be in a file that goes with `until_sent`.
    """
    try:
        if is_missing(found.path):
            raise CannotTranscode("its file is gone")
    except OSError as error:
        raise CannotTranscode(f"its file cannot be read: {error.strerror}") from None
    stored = found.transfer_syntax_uid
    target = choose(stored, accepted.get(found.sop_class_uid, {}))
    if target is None:
        raise CannotTranscode(f"no context for {UID(found.sop_class_uid).name}")
    if target == stored:
        return found.path
    if is_uncompressed(stored) and is_uncompressed(target):
        return transcoded(found.path, target)  # for which no codec is called
    return until_sent.enter_context(converters.converted(found.path, target))


def _named(found: Found) -> Dataset:
    """Return a dataset that only tells which instance it would be."""
    ds = Dataset()
    ds.SOPInstanceUID = found.sop_instance_uid
    return ds


def _conclusion(reasons: Counter[str]) -> Dataset:
    """Return the final status; the library puts in what came of the sub-operations."""
    status = Dataset()
    status.Status = _SUCCESS
    for reason, count in reasons.most_common(1):
        status.ErrorComment = f"{count} not sent: {reason}"[:LONGEST_COMMENT]
    return status
