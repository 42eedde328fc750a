"""The sub-operations of C-GET and C-MOVE: their contexts, files and transfer syntaxes (PS3.4 C.4).

An object is sent as it is stored. Only if the peer does not accept its transfer syntax is it
converted.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomwire import Association, build_context, evt
from dicomwire.data.codec import is_uncompressed
from dicomwire.logs import escaped
from dicomwire.node.converters import Converters
from dicomwire.node.objects.port import Objects
from dicomwire.node.query import Found
from dicomwire.node.statuses import LONGEST_COMMENT
from dicomwire.node.transcode import CannotTranscode, choose, transcoded
from dicomwire.presentation import PresentationContext

LOGGER = logging.getLogger("dicomwire.node")

MOST_CONTEXTS = 128
"""The most presentation contexts of an association (PS3.8 Section 9.3.2.2)."""
_PENDING = 0xFF00
_SUCCESS = 0x0000
_FALLBACK = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

_without_url = partial(re.sub, r"\w+://\S+: ", "")

Syntaxes = dict[str, dict[str, None]]
"""The accepted transfer syntaxes, in order, by SOP class."""


def contexts_for(found: list[Found]) -> list[PresentationContext]:
    """Return contexts to propose, so that each of `found` can be sent in its own transfer syntax.

    There is one context for each pair of SOP class and transfer syntax, the most frequent first.
    As far as 128 contexts allow, each SOP class gets a further one with the uncompressed transfer
    syntaxes, for receivers that accept no compression.
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
    """Return the SOP classes and transfer syntaxes that we may send on an association as SCU."""
    accepted: Syntaxes = {}
    for context in association.accepted_contexts:
        if context.as_scu:
            own = accepted.setdefault(str(context.abstract_syntax), {})
            own[context.transfer_syntax[0]] = None
    return accepted


class DestinationContexts:
    """Records the contexts that the destination of a C-MOVE accepts.

    Attributes
    ----------
    accepted : dict
        See `accepted_by`; empty until the destination has accepted the association.
    """

    def __init__(self) -> None:
        self.accepted: Syntaxes = {}

    @property
    def handlers(self) -> list[evt.EventHandlerType]:
        """The `evt_handlers` for the association with the destination."""
        return [(evt.EVT_ACCEPTED, self._accepted)]

    def _accepted(self, event: evt.Event) -> None:
        self.accepted = accepted_by(event.assoc)


def sub_operations(
    found: list[Found],
    accepted: Callable[[], Syntaxes],
    objects: Objects,
    converters: Converters,
    moved: Callable[[Found], str | None] = lambda found: None,
) -> Iterator[Any]:
    """Yield the results of a C-GET or C-MOVE handler, beginning with the number of objects.

    For an object that cannot be sent, it yields a dataset that has only a SOP Instance UID. The
    library cannot send that either, so it counts the object as failed, and lists its UID. The
    final status has the most frequent reason as its Error Comment.

    Parameters
    ----------
    moved : callable
        Returns the present name of an object that is no longer under the one that was found; None
        if it has none.
    """
    yield len(found)
    reasons: Counter[str] = Counter()
    for each in found:
        with ExitStack() as until_sent:
            try:
                value = to_send(each, accepted(), objects, converters, until_sent, moved)
            except CannotTranscode as error:
                LOGGER.warning("%s cannot be sent: %s", escaped(each.sop_instance_uid), error)
                reasons[str(error)] += 1
                value = _named(each)
            yield _PENDING, value
    yield _conclusion(reasons), None


def to_send(
    found: Found,
    accepted: Syntaxes,
    objects: Objects,
    converters: Converters,
    until_sent: ExitStack,
    moved: Callable[[Found], str | None],
) -> Path | BinaryIO | Dataset:
    """Return what `_sendable` does, also if the object was moved since it was found."""
    try:
        with suppress(FileNotFoundError):
            return _sendable(found, accepted, objects, converters, until_sent)
        name = moved(found)
        if name is not None:
            there = found._replace(name=name)
            return _sendable(there, accepted, objects, converters, until_sent)
    except FileNotFoundError:
        pass
    except OSError as error:
        text = f"its file cannot be read: {error.strerror or error}"
        raise CannotTranscode(text) from None
    raise CannotTranscode("its file is missing")


def _sendable(
    found: Found,
    accepted: Syntaxes,
    objects: Objects,
    converters: Converters,
    until_sent: ExitStack,
) -> Path | BinaryIO | Dataset:
    """Return the stored object, or the object converted to an accepted transfer syntax.

    Leaving `until_sent` closes its file, and removes that of a converted object.

    Raises
    ------
    FileNotFoundError
        When it is not under its name.
    OSError, CannotTranscode
        When it cannot be read or converted.
    """
    stored = found.transfer_syntax_uid
    target = choose(stored, accepted.get(found.sop_class_uid, {}))
    path = objects.path(found.name)
    if path is not None and not objects.exists(found.name):
        raise FileNotFoundError
    if target is None:
        raise CannotTranscode(f"no context for {UID(found.sop_class_uid).name}")
    if target == stored:
        return path or until_sent.enter_context(objects.open(found.name))
    path = until_sent.enter_context(objects.local(found.name))
    if is_uncompressed(stored) and is_uncompressed(target):
        return transcoded(path, target)  # calls no codec, so it needs no converter process
    return until_sent.enter_context(converters.converted(path, target))


def _named(found: Found) -> Dataset:
    """Return a dataset that has only the SOP Instance UID of an object."""
    ds = Dataset()
    ds.SOPInstanceUID = found.sop_instance_uid
    return ds


def _conclusion(reasons: Counter[str]) -> Dataset:
    """Return the final status; the library adds the numbers of sub-operations to it."""
    status = Dataset()
    status.Status = _SUCCESS
    for reason, count in reasons.most_common(1):
        # There is no room for the place; the log has it.
        status.ErrorComment = f"{count} not sent: {_without_url(reason)}"[:LONGEST_COMMENT]
    return status
