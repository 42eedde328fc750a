"""What all pages have in common: names, and what the user may do."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import ROOT, Site
from dicomwire.node.web.page.ohif import link_of
from dicomwire.node.web.page.problems import problems_now
from dicomwire.node.web.page.requests import rights_of


def frame(request: Request, site: Site, here: str) -> dict[str, Any]:
    """Return the facts for the templates of all pages.

    Parameters
    ----------
    here : str
        The name of the page in the navigation.
    """
    configuration = site.configuration
    rights = rights_of(request)
    host, port = site.address
    return {
        "archive": configuration.ae_title,
        "ae_title": configuration.ae_title,
        "host": host or "localhost",
        "port": port,
        "here": here,
        "user": request.state.user.name,
        "may": {str(right) for right in rights},
        "destinations": sorted(site.archive.configuration.destinations),
        "dicomweb": ROOT,
        "problems": problems_now(site) if UserRight.ADMINISTER in rights else [],
        "ohif": link_of(site),
    }
