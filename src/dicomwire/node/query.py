"""Queries of the index: C-FIND's matches, and the instances that C-GET and C-MOVE are about.

Rows that the database selects are candidates; what matches is decided by the rules of `matching`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset

from dicomwire.data.scanner import Elements
from dicomwire.node.answers import Answers
from dicomwire.node.identifier import Identifier, InvalidIdentifier
from dicomwire.node.keys import KEYS, UNIQUE, Level
from dicomwire.node.schema import instance
from dicomwire.node.search import Search, Searched

__all__ = ["Found", "InvalidIdentifier", "find", "instances"]

PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01
CANCELLED = 0xFE00

_ISSUER = next(key for key in KEYS.values() if key.keyword == "IssuerOfPatientID")
_LEVEL, _AE_TITLE, _AVAILABILITY = 0x00080052, 0x00080054, 0x00080056


class Found(NamedTuple):
    """An instance to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path


def find(
    index: Searched,
    model: str,
    identifier: Elements | Dataset,
    *,
    ae_title: str,
    relational: bool = False,
    fuzzy: bool = False,
    combined_datetime: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int | Dataset, Dataset | None]]:
    """Yield what a C-FIND is answered with, as the database finds it (PS3.4 C.4.1).

    Keys of the levels above are matched too, though only their unique keys have to be there.
    Keys that are not known, or of a level below, are as if they were not there; the matches then
    have the status 0xFF01. No connection is held, and no transaction open, between two pages.

    Parameters
    ----------
    model : str
        The SOP class: Patient Root, Study Root or Patient/Study Only - FIND.
    ae_title : str
        To retrieve from.
    relational : bool, optional
        Whether unique keys of the levels above may be missing, or have more than one value.
    fuzzy, combined_datetime : bool, optional
        What was negotiated (PS3.4 C.5.1.1).
    cancelled : callable, optional
        Is asked whether the peer wants no more, before each row that is looked at.
    """
    try:
        asked = Identifier(identifier, model)
        if not relational:
            asked.check_above()
        search = Search(asked, fuzzy, combined_datetime)
    except InvalidIdentifier as error:
        yield error.status, None
        return
    status = PENDING if asked.is_complete else PENDING_WITHOUT_SOME_KEYS
    constants = [(_LEVEL, "CS", asked.level.value), (_AE_TITLE, "AE", ae_title)]
    if asked.has(_AVAILABILITY):
        constants.append((_AVAILABILITY, "CS", "ONLINE"))
    answers = Answers(constants, asked.character_sets)
    wanted = [
        (key.tag, key.vr, search.value_of(key), asked.nested(key) if key.vr == "SQ" else None)
        for key in asked.keys
    ]
    for row in chain.from_iterable(search.pages(index)):
        if cancelled():
            yield CANCELLED, None
            return
        if search.accepts(row):
            values = [(tag, vr, value(row), nested) for tag, vr, value, nested in wanted]
            yield status, answers.make(values)


def instances(
    index: Searched, model: str, identifier: Elements | Dataset, *, relational: bool = False
) -> Iterator[Found]:
    """Return an iterator over what a C-GET or C-MOVE is to send (PS3.4 C.4.2 and C.4.3).

    Unique keys decide it, and the issuer of the Patient ID; other keys are as if they were not
    there. That of the level itself has one value, or a list of UIDs: without it nothing is sent,
    so that no retrieval is for all of the archive.

    Parameters
    ----------
    relational : bool, optional
        Whether unique keys of the levels above may be missing, or have more than one value.

    Raises
    ------
    InvalidIdentifier
        When the identifier does not fit the model.
    """
    asked = Identifier(identifier, model)
    unique = [UNIQUE[asked.level]]
    if relational:
        unique += [key for key in asked.unique_above() if asked.has(key.tag)]
    else:
        asked.check_above()
        unique += asked.unique_above()
    for level, key in UNIQUE.items():
        if level.depth > asked.level.depth and asked.has(key.tag) and asked.values(key):
            raise InvalidIdentifier(f"{key.keyword} is of a level below", key.tag)
    if asked.matcher(unique[0]) is None:
        raise InvalidIdentifier(f"{unique[0].keyword} has no value", unique[0].tag)
    if unique[0].vr != "UI":
        asked.one_value(unique[0])
    if asked.has(_ISSUER.tag) and Level.PATIENT in {key.level for key in unique}:
        unique.append(_ISSUER)
    asked.keys = unique
    search = Search(asked, selects=Level.IMAGE)
    columns = [
        search.add(instance.c[name])
        for name in ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid", "file")
    ]
    return _instances(index, search, columns)


def _instances(index: Searched, search: Search, columns: list[int]) -> Iterator[Found]:
    folder = index.path.parent
    for row in chain.from_iterable(search.pages(index)):
        if search.accepts(row):
            sop_class, uid, syntax, file = (row[at] for at in columns)
            yield Found(sop_class, uid, syntax, folder / file)
