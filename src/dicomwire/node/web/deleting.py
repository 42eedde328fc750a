"""Deletes studies, series and instances by HTTP. The standard has no such transaction for them.

The paths are those of the objects, as other archives have it.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dicomwire.node.deletion import Protected, delete
from dicomwire.node.keys import Level
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import INSTANCE, ROOT, SERIES, STUDY, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.found import Scope

_LEVELS = {"instance": Level.IMAGE, "series": Level.SERIES, "study": Level.STUDY}


def remove(request: Request, site: Site) -> Response:
    """Delete the objects that the path names. Nobody finds them when this is answered.

    Problem 404: the user sees no such object. 409: the study is protected.
    """
    uids = request.path_params
    Scope(request, uids).one()
    name = next(name for name in _LEVELS if name in uids)
    try:
        delete(site.archive.queue, _LEVELS[name], [uids[name]], study_uid=uids["study"])
    except Protected:
        raise Problem(409, "the study is protected") from None
    return Response(status_code=204)


ENDPOINTS = [
    Endpoint("DELETE", ROOT + path, UserRight.DELETE, remove) for path in (STUDY, SERIES, INSTANCE)
]
