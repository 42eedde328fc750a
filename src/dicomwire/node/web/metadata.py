"""WADO-RS: the metadata of studies, series and instances (PS3.18 Section 10.4)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.data.scanner import DatasetError
from dicomwire.logs import escaped
from dicomwire.node.archive import Archive
from dicomwire.node.statuses import CANNOT_UNDERSTAND
from dicomwire.node.users import UserRight
from dicomwire.node.web.describing import described
from dicomwire.node.web.endpoints import (
    INSTANCE,
    ROOT,
    SERIES,
    STUDY,
    Endpoint,
    Site,
    base_url,
)
from dicomwire.node.web.found import Gone, Instance, Scope, explained, opened
from dicomwire.node.web.models import Model
from dicomwire.node.web.responses import datasets
from dicomwire.node.web.validators import not_modified, validators

LOGGER = logging.getLogger("dicomwire.node")


def metadata(request: Request, site: Site) -> Response:
    """Answer with the metadata of the instances that the path names."""
    scope = Scope(request, request.path_params)
    found = scope.one()
    base = base_url(request)
    if "instance" not in request.path_params:
        return datasets(request, site, _each(site.archive, scope, base))
    fields = validators(found, "metadata", base, request.headers.get("accept", ""))
    same = not_modified(request, fields)
    if same is not None:
        return same
    with explained():
        model = _described(site.archive, found, base)
    return datasets(request, site, [model], [*fields.items()])


def _each(archive: Archive, scope: Scope, base: str) -> Iterator[Model]:
    """Yield the metadata of instances; of one that is damaged only its UIDs, and that it is."""
    for found in scope:
        try:
            yield _described(archive, found, base)
        except Gone:
            continue  # deleted just now: it is not part of the study any more
        except DatasetError as error:
            uid = escaped(found.sop_instance_uid)
            LOGGER.warning("%s has no metadata, it is damaged: %s", uid, error)
            yield _named(found)


def _described(archive: Archive, found: Instance, base: str) -> Model:
    with opened(archive, found) as file:
        return described(file, f"{url_of(found, base)}/bulkdata")


def url_of(found: Instance, base: str) -> str:
    """Return the URL of an instance."""
    uids = found.study_uid, found.series_uid, found.sop_instance_uid
    return base + INSTANCE.format(**dict(zip(("study", "series", "instance"), uids, strict=True)))


def _named(found: Instance) -> Model:
    uids = {
        "00080016": found.sop_class_uid,
        "00080018": found.sop_instance_uid,
        "0020000D": found.study_uid,
        "0020000E": found.series_uid,
    }
    model: Model = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}
    model["00081197"] = {"vr": "US", "Value": [CANNOT_UNDERSTAND]}
    return dict(sorted(model.items()))


ENDPOINTS = [
    Endpoint("GET", f"{ROOT}{path}/metadata", UserRight.SEE, metadata)
    for path in (STUDY, SERIES, INSTANCE)
]
