"""Orthanc, and its REST interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from peers import DEADLINE, Peers, serving

DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@contextmanager
def orthanc(
    peers: Peers, node: tuple[str, int], receiver: int, folder: Path, **settings: object
) -> Iterator[int]:
    """Run an Orthanc that knows the node, and has the title HERE; give its HTTP port.

    Parameters
    ----------
    node : tuple of str and int
        The address of the node.
    receiver : int
        The DICOM port of Orthanc.
    **settings
        More settings of Orthanc.
    """
    program = peers.program("Orthanc", "orthanc")
    config = folder / "orthanc.json"

    def command(http: int) -> list[object]:
        known = {
            "StorageDirectory": str(folder / "orthanc"),
            "HttpPort": http,
            "AuthenticationEnabled": False,
            "DicomAet": "HERE",
            "DicomPort": receiver,
            "DicomModalities": {"node": ["DICOMWIRE", *node]},
        }
        config.write_text(json.dumps(known | settings))
        return [program, config]

    with serving(folder, command) as http:
        yield http


def dicomweb(peers: Peers) -> dict[str, object]:
    """Return the settings that load Orthanc's plug-in for DICOMweb, below /dicom-web."""
    return {
        "Plugins": [peers.file(DICOMWEB, "orthanc-dicomweb")],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full"},
    }


def rest(port: int, path: str, body: object = None) -> Any:
    """Return what Orthanc's REST interface answers: to a GET, or to a POST if there is a body."""
    data = json.dumps(body).encode() if body is not None else None
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", data), timeout=DEADLINE) as answer:
        return json.load(answer)
