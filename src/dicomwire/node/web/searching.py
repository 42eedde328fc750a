"""QIDO-RS: searches for studies, series and instances (PS3.18 Section 10.6).

The same candidates and rules as those of C-FIND decide what matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.identifier import NOT_MATCHED, Identifier, InvalidIdentifier
from dicomwire.node.keys import QUERY_KEYS, UNIQUE, Level, QueryKey, Use
from dicomwire.node.query import STUDY_ROOT
from dicomwire.node.search import Search
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import ROOT, SERIES, STUDY, Endpoint, Site, base_url
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.models import CHARACTER_SET, UTF_8, Model, element, element_of_text
from dicomwire.node.web.parameters import Parameters, Path, name_of
from dicomwire.node.web.responses import datasets

_COUNTED = 1000
"""Up to this limit, a response is made before it is sent, so that it can say whether there are
more results: a megabyte or two. Longer ones are sent while they are made."""
_AVAILABILITY, _RETRIEVE_URL = "00080056", "00081190"

_RETURNED = {
    # Required, with or without a value; then those that are returned if known.
    Level.STUDY: (
        "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName PatientName"
        " PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID"
        " NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances",
        "TimezoneOffsetFromUTC",
    ),
    Level.SERIES: (
        "Modality SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances",
        "TimezoneOffsetFromUTC SeriesDescription PerformedProcedureStepStartDate"
        " PerformedProcedureStepStartTime RequestAttributesSequence",
    ),
    Level.IMAGE: (
        "SOPClassUID SOPInstanceUID InstanceNumber",
        "TimezoneOffsetFromUTC Rows Columns BitsAllocated NumberOfFrames"
        " AvailableTransferSyntaxUID",
    ),
}
"""The attributes that responses have (PS3.18 Tables 10.6.3-3 to 10.6.3-5)."""


def _keys_of(names: str) -> list[QueryKey]:
    return [QUERY_KEYS[tag_for_keyword(name) or 0] for name in names.split()]


_REQUIRED = {level: _keys_of(names) for level, (names, _) in _RETURNED.items()}
_IF_KNOWN = {level: _keys_of(names) for level, (_, names) in _RETURNED.items()}
_COUNTS_OF_PATIENTS = frozenset(
    key for key in QUERY_KEYS.values() if key.level is Level.PATIENT and key.use is Use.COMPUTED
)


class _Column(NamedTuple):
    """An attribute of responses."""

    key: QueryKey
    value: Callable[[Row[Any]], Sequence[Any]]
    is_required: bool


class Results:
    """The results of a search.

    Attributes
    ----------
    ignored : list of str
        The attributes that the index does not have at this level.
    """

    def __init__(self, level: Level, tables: Sequence[Level], asked: Parameters) -> None:
        self._level = level
        self._request = Identifier(asked.identifier(level.value), STUDY_ROOT)
        self._search = Search(self._request, asked.fuzzy)
        paths = [*asked.keys, *((tag,) for tag in asked.included)]
        self.ignored = sorted({name_of(path) for path in paths if not self._has(path)})
        self.ignored += sorted(name_of(path) for path in asked.keys if path[0] in NOT_MATCHED)
        self._columns = [*self._chosen(tables, asked)]
        self._uids = [
            self._search.value_of(UNIQUE[each])
            for each in (Level.STUDY, Level.SERIES, Level.IMAGE)
            if each.depth <= level.depth
        ]

    def _has(self, path: Path) -> bool:
        key = QUERY_KEYS.get(int(path[0]))
        return path[0] in NOT_MATCHED or (key is not None and key.level.depth <= self._level.depth)

    def _chosen(self, tables: Sequence[Level], asked: Parameters) -> Iterator[_Column]:
        """Yield the attributes to return, in the order of their tags."""
        required = {key for level in tables for key in _REQUIRED[level]}
        others = {key for level in tables for key in _IF_KNOWN[level]}
        named = [path[0] for path in asked.keys] + asked.included
        others |= {QUERY_KEYS[int(tag)] for tag in named if int(tag) in QUERY_KEYS}
        if asked.includes_all:
            # Numbers of a patient's objects are not attributes of a study.
            levels = {*tables, Level.PATIENT}
            others |= {
                key for key in QUERY_KEYS.values() if key.level in levels
            } - _COUNTS_OF_PATIENTS
        for key in sorted(required | others, key=lambda each: each.tag):
            if key.level.depth <= self._level.depth:
                yield _Column(key, self._search.value_of(key), key in required)

    def models(
        self, index: Any, base: str, is_over: Callable[[], bool] = lambda: False
    ) -> Iterator[Model]:
        """Yield the results, until `is_over`: a long search may find none to stop at."""
        for page in self._search.pages(index):
            if is_over():
                return
            for row in page:
                if self._search.accepts(row):
                    yield self._model(row, base)

    def _model(self, row: Row[Any], base: str) -> Model:
        model: Model = {CHARACTER_SET: UTF_8}
        for key, value, is_required in self._columns:
            if key.column is None:
                found = element(key.vr, value(row))
            else:
                found = element_of_text(key.vr, value(row)[0])
            if is_required or "Value" in found:
                model[key.json_tag] = found
        model[_AVAILABILITY] = {"vr": "CS", "Value": ["ONLINE"]}
        uids = [uid(row)[0] for uid in self._uids]
        path = "/".join(map("/".join, zip(("studies", "series", "instances"), uids, strict=False)))
        model[_RETRIEVE_URL] = {"vr": "UR", "Value": [f"{base}/{path}"]}
        return dict(sorted(model.items()))


class _Resource(NamedTuple):
    """A resource that can be searched (PS3.18 Table 10.6.1-1)."""

    path: str
    level: Level
    tables: tuple[Level, ...]
    """The levels whose attributes responses have: those that the path does not name."""

    def search(self, request: Request, site: Site) -> Response:
        """Answer a search."""
        asked = Parameters(request.query_params.multi_items())
        for name, level in (("study", Level.STUDY), ("series", Level.SERIES)):
            if name in request.path_params:
                asked.add((BaseTag(UNIQUE[level].tag),), request.path_params[name])
        try:
            results = Results(self.level, self.tables, asked)
        except InvalidIdentifier as error:
            raise Problem(400, str(error)) from None
        base = base_url(request)
        warnings = []
        if results.ignored:
            names = ", ".join(results.ignored)
            warnings.append(f"These attributes are not supported, and were ignored: {names}")
        state = request.state
        models, has_more = _page(results.models(state.index, base, state.is_over), asked)
        if has_more:
            warnings.append("There are additional results that can be requested")
        headers = [("Warning", f'299 {base} "{text}"') for text in warnings]
        return datasets(request, site, models, headers)


def _page(models: Iterator[Model], asked: Parameters) -> tuple[Iterator[Model], bool]:
    """Return the results that are asked for, and whether it is known that there are more."""
    if asked.limit is None:
        return islice(models, asked.offset, None), False
    end = asked.offset + asked.limit
    if asked.limit > _COUNTED:
        return islice(models, asked.offset, end), False
    page = list(islice(models, asked.offset, end + 1))
    return iter(page[: asked.limit]), len(page) > asked.limit


_S, _E, _I = Level.STUDY, Level.SERIES, Level.IMAGE
_RESOURCES = (
    _Resource("/studies", _S, (_S,)),
    _Resource("/series", _E, (_S, _E)),
    _Resource("/instances", _I, (_S, _E, _I)),
    _Resource(f"{STUDY}/series", _E, (_E,)),
    _Resource(f"{STUDY}/instances", _I, (_E, _I)),
    _Resource(f"{SERIES}/instances", _I, (_I,)),
)
ENDPOINTS = [Endpoint("GET", ROOT + each.path, UserRight.SEE, each.search) for each in _RESOURCES]
