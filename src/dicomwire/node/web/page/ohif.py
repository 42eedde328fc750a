"""Serves OHIF's files, as its npm package has them, beside the page: a viewer for experts.

OHIF is made for the root of a host, so its files are there; none has the path of a page of ours.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from mimetypes import guess_type
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from dicomwire.node.users import UserRight
from dicomwire.node.web.endpoints import ROOT, Endpoint, Site
from dicomwire.node.web.errors import Problem
from dicomwire.node.web.page.rendering import PROTECTION

PATH = "/viewer"
"""Where OHIF shows a study."""
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_WASM = ".wasm"


def link_of(site: Site) -> str:
    """Return the path of the viewer; "" if its folder is not configured."""
    return PATH if site.configuration.viewer else ""


def _page(request: Request, site: Site) -> Response:
    """Answer with OHIF's one page, which fetches what its address names."""
    if not site.configuration.viewer:
        raise Problem(404, "there is no such page")
    text = (Path(site.configuration.viewer) / "index.html").read_text("utf-8")
    return HTMLResponse(text, headers=_protection(text))


def _file(request: Request, site: Site) -> Response:
    """Answer with one of OHIF's files."""
    name = request.path_params["name"]
    folder = site.configuration.viewer
    if not folder or name not in _names(folder):
        raise Problem(404, "there is no such page")
    if name == "app-config.js":
        text = f"window.config = {json.dumps(_configuration(site))};"
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
    if name == "init-service-worker.js":  # it would keep data of patients in the browser
        return Response("", media_type="text/javascript")
    path = Path(folder) / name
    kind = "application/wasm" if path.suffix == _WASM else guess_type(name)[0]
    fields = {"Cache-Control": "private, max-age=86400", "Content-Security-Policy": _policy("")}
    return FileResponse(path, headers=fields, media_type=kind or "application/octet-stream")


@cache
def _names(folder: str) -> frozenset[str]:
    """Return the files below a folder, relative to it: no other is ever opened."""
    root = Path(folder)
    return frozenset(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.name != "index.html"
    )


def _protection(text: str) -> dict[str, str]:
    """Return the header fields of OHIF's page: its own inline scripts may run, and no others."""
    digests = [sha256(script.encode()).digest() for script in _INLINE.findall(text)]
    hashes = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)
    fields = {"Content-Security-Policy": _policy(hashes), "Cache-Control": "no-store"}
    return PROTECTION | fields


def _policy(hashes: str) -> str:
    """Return what OHIF may do: it sets styles by itself, decodes by WebAssembly, and in workers."""
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob: {hashes}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; font-src 'self' data:; "
        "connect-src 'self' blob: data:; worker-src 'self' blob:; media-src 'self' blob:; "
        "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _configuration(site: Site) -> dict[str, object]:
    """Return OHIF's configuration: our DICOMweb is its only source."""
    source = {
        "friendlyName": site.configuration.ae_title,
        "name": "dicomwire",
        "qidoRoot": ROOT,
        "wadoRoot": ROOT,
        "wadoUriRoot": "/wado",
        "qidoSupportsIncludeField": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": True,
        "supportsWildcard": True,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
    }
    return {
        "name": "dicomwire",
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "dicomweb",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "dicomweb",
                "configuration": source,
            }
        ],
    }


ENDPOINTS = [
    Endpoint("GET", PATH, UserRight.SEE, _page),
    Endpoint("GET", "/{name:path}", None, _file),
]
