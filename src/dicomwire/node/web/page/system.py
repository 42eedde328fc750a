"""The page of operators, and the JSON API of it: tasks, destinations, associations, log, nodes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dicomwire import AssociationFailure, build_context
from dicomwire.node import operations
from dicomwire.node.objects.opening import folder_of
from dicomwire.node.outgoing import Unreachable
from dicomwire.node.overview import described, status
from dicomwire.node.tasks.queue import State, counts, listed
from dicomwire.node.tasks.threads import GiveUp
from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page.frame import frame
from dicomwire.node.web.page.plots import plots_of
from dicomwire.node.web.page.problems import destinations_of, problems_of, state_of
from dicomwire.node.web.page.rendering import page
from dicomwire.node.web.page.requests import answer, body_of, is_list_of, number_of
from dicomwire.sop_class import Verification

_SHOWN = 20
"""The tasks on the page; there may be millions."""
_MOST_LISTED = 10_000
"""The most tasks in one answer of the API."""


def _page(request: Request, site: Site) -> Response:
    return page("system.html", **frame(request, site, "system"), **_facts(request, site))


def _now(request: Request, site: Site) -> Response:
    return page("system_now.html", **frame(request, site, "system"), **_facts(request, site))


def _facts(request: Request, site: Site) -> dict[str, Any]:
    """Return what the page shows."""
    found = state_of(site)
    destinations = destinations_of(site)
    is_day = request.query_params.get("of") == "day"
    number, peers = site.operations.associations()
    states = [State(each) for each in State if each == request.query_params.get("state")]
    tasks = list(islice(listed(site.archive.index, None, states), _SHOWN))
    return {
        "state": found,
        "told": problems_of(site, found, destinations),
        "states": destinations,
        "tasks": [described(each) for each in tasks],
        "total": sum(sum(numbers.values()) for numbers in found["tasks"].values()),
        "dead": sum(numbers["dead"] for numbers in found["tasks"].values()),
        "associations": number,
        "peers": peers,
        "disk": shutil.disk_usage(folder_of(site.configuration)),
        "plots": plots_of(site.operations.samples(is_day)),
        "is_day": is_day,
        "log": site.operations.log(),
        "folder": str(site.configuration.folder),
    }


# --- The API ---


def _status(request: Request, site: Site) -> Response:
    return answer(status(site.archive.index))


def _tasks(request: Request, site: Site) -> Response:
    parameters = request.query_params
    most = min(number_of(parameters, "limit", _SHOWN), _MOST_LISTED)
    kind, states = parameters.get("kind") or None, _states(parameters.getlist("state"))
    tasks = islice(listed(site.archive.index, kind, states), most)
    return answer(
        {"tasks": [described(each) for each in tasks], "counts": counts(site.archive.index)}
    )


async def _retry(request: Request, site: Site) -> Response:
    return await _change(request, site, site.archive.queue.retry)


async def _drop(request: Request, site: Site) -> Response:
    return await _change(request, site, site.archive.queue.drop)


async def _change(request: Request, site: Site, change: Callable[..., int]) -> Response:
    """Change tasks: those with these ids, or those of a kind and in some states (dead)."""
    wanted = await body_of(request)
    kind, ids = wanted.get("kind"), wanted.get("ids", [])
    if not (kind is None or isinstance(kind, str)) or not is_list_of(int, ids):
        raise Problem(400, "kind is a text, and ids is a list of numbers")
    states = [] if ids else _states(wanted.get("states", ["dead"]))
    return answer({"tasks": await site.threads.run(change, kind, states, ids)})


def _states(names: Any) -> list[State]:
    if not is_list_of(str, names) or not {*names} <= {*State}:
        raise Problem(400, f"a state is one of {', '.join(State)}")
    return [State(name) for name in names]


def _destinations(request: Request, site: Site) -> Response:
    return answer({"destinations": destinations_of(site)})


def _echo(request: Request, site: Site) -> Response:
    """Test whether a destination answers a C-ECHO."""
    name = request.path_params["name"]
    if name not in site.archive.configuration.destinations:
        raise Problem(404, "there is no such destination")
    began = time.monotonic()
    try:
        with site.archive.outgoing.associate(name, [build_context(Verification)]) as association:
            code = association.send_c_echo().Status
    except (AssociationFailure, Unreachable, GiveUp) as error:
        return answer({"answers": False, "reason": str(error)})
    if code != 0x0000:
        return answer({"answers": False, "reason": f"it answers with 0x{code:04X}"})
    return answer({"answers": True, "seconds": round(time.monotonic() - began, 3)})


def _associations(request: Request, site: Site) -> Response:
    number, peers = site.operations.associations()
    return answer({"associations": number, "peers": [each._asdict() for each in peers]})


def _samples(request: Request, site: Site) -> Response:
    samples = site.operations.samples(request.query_params.get("of") == "day")
    return answer({"samples": [operations.described(each) for each in samples]})


def _log(request: Request, site: Site) -> Response:
    return answer({"lines": [each._asdict() for each in site.operations.log()]})


ENDPOINTS = [
    Endpoint("GET", "/system", UserRight.ADMINISTER, _page),
    Endpoint("GET", "/system/now", UserRight.ADMINISTER, _now),
    Endpoint("GET", "/api/status", UserRight.ADMINISTER, _status),
    Endpoint("GET", "/api/tasks", UserRight.ADMINISTER, _tasks),
    Endpoint("POST", "/api/tasks/retry", UserRight.ADMINISTER, _retry),
    Endpoint("POST", "/api/tasks/drop", UserRight.ADMINISTER, _drop),
    Endpoint("GET", "/api/destinations", UserRight.ADMINISTER, _destinations),
    Endpoint("POST", "/api/destinations/{name}/echo", UserRight.ADMINISTER, _echo),
    Endpoint("GET", "/api/associations", UserRight.ADMINISTER, _associations),
    Endpoint("GET", "/api/samples", UserRight.ADMINISTER, _samples),
    Endpoint("GET", "/api/log", UserRight.ADMINISTER, _log),
]
