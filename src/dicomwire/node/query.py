"""Queries of the index: the matches of a C-FIND, and the instances that C-GET and C-MOVE send.

The database selects candidates; the rules of `matching` decide which of them match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from pydicom.dataset import Dataset

from dicomwire.data.scanner import Elements
from dicomwire.node.answers import Answer, Answers
from dicomwire.node.identifier import Identifier, InvalidIdentifier
from dicomwire.node.index.schema import instance
from dicomwire.node.keys import QUERY_KEYS, UNIQUE, Level
from dicomwire.node.search import Search, Searched

__all__ = ["Found", "InvalidIdentifier", "find", "instances"]

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""
PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01
CANCELLED = 0xFE00

_ISSUER = next(key for key in QUERY_KEYS.values() if key.keyword == "IssuerOfPatientID")
_LEVEL, _AE_TITLE, _AVAILABILITY = 0x00080052, 0x00080054, 0x00080056


class Found(NamedTuple):
    """An instance to send."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    name: str
    """Its name in the store of objects."""


def find(
    index: Searched,
    model: str,
    identifier: Elements | Dataset,
    *,
    ae_title: str,
    transfer_syntax: str,
    relational: bool = False,
    fuzzy: bool = False,
    combined_datetime: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int | Dataset, bytes | None]]:
    """Return an iterator over status and identifier of the responses to a C-FIND (PS3.4 C.4.1).

    All keys of the levels above are matched, though only the unique ones are mandatory. Keys that
    are unknown, or of a level below, are ignored; the matches then have the status 0xFF01. No
    connection and no transaction is open between two pages of results.

    Parameters
    ----------
    model : str
        The SOP class: Patient Root, Study Root or Patient/Study Only - FIND.
    ae_title : str
        The Retrieve AE Title of the responses.
    transfer_syntax : str
        For the identifiers of the responses, which are encoded.
    relational : bool, optional
        Whether unique keys of the levels above may be missing, or have more than one value.
    fuzzy, combined_datetime : bool, optional
        Whether the peer negotiated these (PS3.4 C.5.1.1).
    cancelled : callable, optional
        Called before each candidate; returns whether the peer has cancelled the query.
    """
    try:
        request = Identifier(identifier, model)
        if not relational:
            request.check_above()
        search = Search(request, fuzzy, combined_datetime)
    except InvalidIdentifier as error:
        return iter([(error.status, None)])
    constants = [(_LEVEL, "CS", request.level.value), (_AE_TITLE, "AE", ae_title)]
    if request.has(_AVAILABILITY):
        constants.append((_AVAILABILITY, "CS", "ONLINE"))
    attributes = [
        Answer(
            key.tag,
            key.vr,
            search.value_of(key),
            request.nested(key) if key.vr == "SQ" else None,
        )
        for key in request.keys
    ]
    answers = Answers(constants, attributes, request.character_sets, transfer_syntax)
    return _responses(index, request, search, answers, cancelled)


def _responses(
    index: Searched,
    request: Identifier,
    search: Search,
    answers: Answers,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[int | Dataset, bytes | None]]:
    status = PENDING if request.is_complete else PENDING_WITHOUT_SOME_KEYS
    for row in chain.from_iterable(search.pages(index)):
        if cancelled():
            yield CANCELLED, None
            return
        if search.accepts(row):
            yield status, answers.make(row)


def instances(
    index: Searched, model: str, identifier: Elements | Dataset, *, relational: bool = False
) -> Iterator[Found]:
    """Return an iterator over the instances that a C-GET or C-MOVE sends (PS3.4 C.4.2 and C.4.3).

    The unique keys and the Issuer of Patient ID select them; other keys are ignored. The unique
    key of the level itself must have one value, or a list of UIDs, so that a retrieval cannot
    be for the whole archive.

    Parameters
    ----------
    relational : bool, optional
        Whether unique keys of the levels above may be missing, or have more than one value.

    Raises
    ------
    InvalidIdentifier
        When the identifier does not fit the model.
    """
    request = Identifier(identifier, model)
    unique = [UNIQUE[request.level]]
    if relational:
        unique += [key for key in request.unique_above() if request.has(key.tag)]
    else:
        request.check_above()
        unique += request.unique_above()
    for level, key in UNIQUE.items():
        if level.depth > request.level.depth and request.has(key.tag) and request.values(key):
            raise InvalidIdentifier(f"{key.keyword} is of a level below", key.tag)
    if request.matcher(unique[0]) is None:
        raise InvalidIdentifier(f"{unique[0].keyword} has no value", unique[0].tag)
    if unique[0].vr != "UI":
        request.one_value(unique[0])
    if request.has(_ISSUER.tag) and Level.PATIENT in {key.level for key in unique}:
        unique.append(_ISSUER)
    request.keys = unique
    search = Search(request, selects=Level.IMAGE)
    columns = [
        search.add(instance.c[name])
        for name in ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid", "file")
    ]
    return _instances(index, search, columns)


def _instances(index: Searched, search: Search, columns: list[int]) -> Iterator[Found]:
    for row in chain.from_iterable(search.pages(index)):
        if search.accepts(row):
            sop_class, uid, syntax, file = (row[at] for at in columns)
            yield Found(sop_class, uid, syntax, file)
