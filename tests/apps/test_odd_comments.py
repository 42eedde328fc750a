"""What a peer says in an Error Comment is shown, whatever it is, and stops no application."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomwire import build_context, evt, sop_class
from dicomwire.apps import findscu, getscu, movescu, storescu
from dicomwire.protocol import command, dimse

Capture = pytest.CaptureFixture[str]

QUERY = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
COMMENTS = {
    b"No room in D:\\images ": "No room in D:\\images",
    b"Pl\xe4tte voll": "Pl\\xe4tte voll",
    b"\\": "\\",
    b"two\nlines\x1b[2J ": "two\\nlines\\x1b[2J",
}


@pytest.fixture(params=COMMENTS, ids=["backslash", "Latin-1", "backslash alone", "controls"])
def comment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have each Error Comment be sent as another implementation might, and return it as shown."""
    raw: bytes = request.param
    number = command.ELEMENTS["ErrorComment"].number

    def encode(message: command.Message) -> bytes:
        said, message.ErrorComment = message.ErrorComment, None
        encoded = command.encode_command(message)
        if said is not None:
            encoded += bytes((0, 0)) + number.to_bytes(2, "little") + len(raw).to_bytes(4, "little")
            encoded += raw
        return encoded

    monkeypatch.setattr(dimse, "encode_command", encode)
    return COMMENTS[raw]


def commented(code: int) -> Dataset:
    status = Dataset()
    status.Status = code
    status.ErrorComment = "replaced"
    return status


@pytest.mark.parametrize("options", [[], ["--window", "4"], ["--parallel", "2"]], ids=" ".join)
@pytest.mark.parametrize("code", [0xB000, 0xA900])  # not 0xA700: then --parallel tries again later
def test_storescu(
    start_peer: Callable[..., Any],
    wheel: Path,
    capsys: Capture,
    comment: str,
    code: int,
    options: list[str],
) -> None:
    peer = start_peer(
        [build_context(sop_class.CTImageStorage, "1.2.840.10008.1.2.1")],
        [(evt.EVT_C_STORE, lambda event: commented(code))],
    )
    path = str(wheel / "CT_small.dcm")
    assert storescu.main(["--lenient", *peer.address, path, "-v", *options]) == 0
    assert f"({comment})" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0xB000, 0xA700])
@pytest.mark.parametrize(
    ("app", "model", "event"),
    [
        (findscu, sop_class.StudyRootQueryRetrieveInformationModelFind, evt.EVT_C_FIND),
        (getscu, sop_class.StudyRootQueryRetrieveInformationModelGet, evt.EVT_C_GET),
        (movescu, sop_class.StudyRootQueryRetrieveInformationModelMove, evt.EVT_C_MOVE),
    ],
    ids=["findscu", "getscu", "movescu"],
)
def test_queries_and_retrievals(
    start_peer: Callable[..., Any],
    capsys: Capture,
    comment: str,
    code: int,
    app: Any,
    model: str,
    event: evt.InterventionEvent,
) -> None:
    # A retrieval that has not begun can be ended with (status, None) in place of its beginning.
    peer = start_peer(
        [build_context(model)], [(event, lambda event: iter([(commented(code), None)]))]
    )
    assert app.main(["--lenient", "-v", *peer.address, *QUERY]) == 0
    assert f"({comment})" in capsys.readouterr().err
