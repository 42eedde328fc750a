"""Decides about each request: whose it is, and whether that user may make it.

`node.users` has the users, `sessions` those who have logged in. Nothing here reads a body.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from dicomwire.node.configuration import Configuration
from dicomwire.node.users import ANYONE_HERE, NOBODY, User, Users, file_of
from dicomwire.node.visible import VisibleIndex
from dicomwire.node.web.endpoints import Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.sessions import COOKIE, Sessions

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dicomwire"'}
_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Fields that say that a proxy has passed a request on."""


class Gate:
    """Knows the users of an archive.

    Attributes
    ----------
    users : Users
    sessions : Sessions
    """

    def __init__(self, configuration: Configuration) -> None:
        self.users = Users(file_of(configuration))
        self.sessions = Sessions(self.users)
        self._proxies = configuration.http_proxies

    def admit(self, request: Request, endpoint: Endpoint, site: Site) -> Response | None:
        """Set the user of a request, and the index as that user sees it.

        Returns a response for a browser that has to log in; `Problem` if the request is refused.
        """
        request.state.user = NOBODY
        if endpoint.right is None:
            return None
        user = self._user_of(request)
        if user is None:
            if _shows_pages(request):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
            raise Problem(401, "a user has to log in, or to send a token", _CHALLENGE)
        request.state.user = user
        request.state.index = VisibleIndex(site.archive.index, user.studies)
        if endpoint.right not in user.rights:
            raise Problem(403, f"the user has no right to {endpoint.right}")
        return None

    def look_behind_proxies(self, scope: Scope) -> str:
        """Return the address of the client, and set the scheme, as a trusted proxy tells them."""
        address = scope["client"][0] if scope["client"] else ""
        headers = Headers(scope=scope)
        told = headers.get("x-forwarded-for", "").split(",")
        scheme = headers.get("x-forwarded-proto")
        if scheme in ("http", "https") and self._is_proxy(address):
            scope["scheme"] = scheme
        while told and self._is_proxy(address):
            claimed = told.pop().strip()
            if _address_in(claimed) is None:
                break
            address = claimed
        return address

    def _is_proxy(self, address: str) -> bool:
        found = _address_in(address)
        return found is not None and any(found in network for network in self._proxies)

    def _user_of(self, request: Request) -> User | None:
        """Return the user of a request; None if it does not tell one."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            # A page of another origin cannot send this field, so its origin does not matter.
            return self.users.of_token(token.strip()) if scheme.lower() == "bearer" else None
        refuse_foreign(request)
        if self.users:
            return self.sessions.user(request.cookies.get(COOKIE, ""))
        return ANYONE_HERE if _is_from_here(request) else None


def refuse_foreign(request: Request) -> None:
    """Refuse a request that a page of another origin has made the browser send.

    A browser adds the credentials of the user to it, or it comes from the user's machine. Such a
    page may link to ours, though.
    """
    if is_foreign(request.headers) and not _is_navigation(request):
        raise Problem(403, "a page of another origin must not use the archive")


def is_foreign(headers: Headers) -> bool:
    """Return whether a browser says that a page of another origin makes the request.

    Browsers send Sec-Fetch-Site with each request, and older ones at least Origin with those
    that change something. Other programs send neither.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site not in ("none", "same-origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _is_navigation(request: Request) -> bool:
    """Return whether a browser opens a page in a window, which another page may cause."""
    fetch = request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")
    return request.method == "GET" and fetch == ("navigate", "document")


def _shows_pages(request: Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _is_from_here(request: Request) -> bool:
    """Return whether a program on this machine makes the request for itself.

    It does not if it is a proxy. Some tell nothing of that, but speak HTTP/1.0, or name the host
    that their client has named. A name in Host that is not of this machine also shows that a name
    server has given a page of another site our address (DNS rebinding).
    """
    return (
        request.scope["http_version"] != "1.0"
        and not any(name in request.headers for name in _OF_PROXIES)
        and _is_loopback(request.client.host if request.client else "")
        and _is_loopback(_name_of_host(request.headers.get("host", "")))
    )


def _name_of_host(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    address = _address_in(name)
    return name == "localhost" if address is None else address.is_loopback


def _address_in(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
