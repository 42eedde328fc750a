"""Checks whether the archive has objects: by the index, and by reading each of them.

An object is committed if the index has it with the class of the reference, and the store has its
dataset with the digest that it had when it was received.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from sqlalchemy import select

from dicomwire.logs import escaped
from dicomwire.node.commitment.references import Reference
from dicomwire.node.files import StoreFailure
from dicomwire.node.index.reader import IndexReader
from dicomwire.node.index.schema import instance
from dicomwire.node.objects.places import Elsewhere
from dicomwire.node.objects.port import Objects
from dicomwire.node.reading import digest_in
from dicomwire.node.statuses import CLASS_INSTANCE_CONFLICT, NO_SUCH_INSTANCE, PROCESSING_FAILURE

LOGGER = logging.getLogger("dicomwire.node")

_PORTION = 500
"""The references that are looked up in the index at a time: the most values of a statement."""
_AT_A_TIME = 8
"""The objects of a bucket that are read at the same time: most of it is waiting for the store."""


class _Copy(NamedTuple):
    """A copy of an object in the index."""

    file: str
    digest: str
    sop_class_uid: str


_Copies = dict[str, list[_Copy]]
"""The copies by SOP Instance UID."""


class Verifier:
    """Checks objects of an archive.

    Parameters
    ----------
    index : IndexReader
    objects : Objects
    """

    def __init__(self, index: IndexReader, objects: Objects) -> None:
        self._index = index
        self._objects = objects

    def verify(
        self, references: Sequence[Reference], start: int, seconds: float
    ) -> tuple[int, dict[int, int]]:
        """Check references from the position `start` on, for about `seconds`.

        Returns
        -------
        tuple of int and dict
            The position to go on from, and the Failure Reason of each that failed, by position.

        Raises
        ------
        IndexFailure, OSError
            When index or store cannot be used at the moment, so that nothing is known.
        """
        deadline = time.monotonic() + seconds
        failed: dict[int, int] = {}
        position = start
        while position < len(references) and (position == start or time.monotonic() < deadline):
            portion = references[position : position + _PORTION]
            for reason in self._reasons(portion):
                if reason:
                    failed[position] = reason
                position += 1
                if time.monotonic() >= deadline:
                    break
        return position, failed

    def _reasons(self, references: Sequence[Reference]) -> Iterator[int]:
        """Yield the Failure Reason of each reference; 0 for an object that is committed."""
        found = self._find([each.sop_instance_uid for each in references])
        names = (copy.file for copy in chain.from_iterable(found.values()))
        if all(self._objects.path(name) is not None for name in names if self._is_near(name)):
            # The processor is the limit here: threads would only take it from those that receive.
            yield from (self._reason(each, found) for each in references)
            return
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for first in range(0, len(references), _AT_A_TIME):
                few = references[first : first + _AT_A_TIME]
                yield from pool.map(lambda each: self._reason(each, found), few)

    def _is_near(self, name: str) -> bool:
        """Return whether this node can read an object."""
        return self._objects.owns(name)

    def _find(self, uids: Sequence[str]) -> _Copies:
        columns = (instance.c.sop_instance_uid, instance.c.file, instance.c.digest)
        query = select(*columns, instance.c.sop_class_uid)
        query = query.where(instance.c.sop_instance_uid.in_(uids))
        found: _Copies = {}
        with self._index.reading() as connection:
            for uid, *copy in connection.execute(query):
                found.setdefault(uid, []).append(_Copy(*copy))
        return found

    def _reason(self, reference: Reference, found: _Copies) -> int:
        uid = reference.sop_instance_uid
        copies = found.get(uid, [])
        reason = self._state(reference, copies)
        if reason == NO_SUCH_INSTANCE and copies:  # it may have been moved or replaced meanwhile
            present = self._find([uid]).get(uid, [])
            if present != copies:
                return self._state(reference, present)
            LOGGER.error("%s cannot be committed: its file is missing", copies[0].file)
        return reason

    def _state(self, reference: Reference, copies: Sequence[_Copy]) -> int:
        own = [each for each in copies if each.sop_class_uid == reference.sop_class_uid]
        if copies and not own:
            return CLASS_INSTANCE_CONFLICT
        reason = NO_SUCH_INSTANCE
        for copy in own:
            reason = self._read(copy)
            if not reason:
                break
        return reason

    def _read(self, copy: _Copy) -> int:
        """Read an object and compare its digest; return 0 if it is intact."""
        try:
            with self._objects.open(copy.file) as opened:
                if digest_in(opened).hex() == copy.digest:
                    return 0
        except FileNotFoundError:
            return NO_SUCH_INSTANCE
        except (StoreFailure, Elsewhere):
            raise
        except (OSError, ValueError) as error:
            LOGGER.error(
                "%s cannot be committed: it cannot be read: %s", copy.file, escaped(str(error))
            )
            return PROCESSING_FAILURE
        LOGGER.error("%s cannot be committed: it is damaged", copy.file)
        return PROCESSING_FAILURE
