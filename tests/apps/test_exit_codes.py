"""The exit codes of the applications that request associations, as the page exit_codes has them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dicomwire import AE, QueryRetrievePresentationContexts, evt
from dicomwire.apps import findscu
from dicomwire.sop_class import Verification

QUERY = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=1"]
APPS = ["echoscu", "findscu", "getscu", "movescu", "storescu"]


@pytest.fixture
def run(write_file: Callable[..., Path], tmp_path: Path) -> Callable[..., int]:
    """Return a function that runs an application against a port, with what it has to be told."""
    path = str(write_file("image"))
    own = {
        "echoscu": [],
        "findscu": QUERY,
        "getscu": [*QUERY, "-od", str(tmp_path)],
        "movescu": QUERY,
        "storescu": [path],
    }

    def start(app: str, port: int, *options: str) -> int:
        main = import_module(f"dicomwire.apps.{app}").main
        code: int = main(["127.0.0.1", str(port), *own[app], "-q", *options])
        return code

    return start


@pytest.fixture
def peer(start_peer: Callable[..., Any], every_context: list[Any]) -> Any:
    """A peer whose handlers answer as `status` says."""

    def answer(event: evt.Event) -> Any:
        yield peer.status(event), None

    events = (evt.EVT_C_FIND, evt.EVT_C_GET, evt.EVT_C_MOVE)
    handlers = [(event, answer) for event in events]
    peer = start_peer(every_context, handlers)
    return peer


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("lenient", "code"), [([], 3), (["--lenient"], 1)])
def test_no_association(
    app: str, lenient: list[str], code: int, run: Callable[..., int], closed_port: int
) -> None:
    assert run(app, closed_port, *lenient) == code


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("lenient", "code"), [([], 3), (["--lenient"], 1)])
def test_a_peer_that_takes_none_of_the_sop_classes(
    app: str, lenient: list[str], code: int, run: Callable[..., int], start_peer: Any
) -> None:
    contexts = AE()
    contexts.add_supported_context("1.2.3" if app == "echoscu" else Verification)
    peer = start_peer(contexts.supported_contexts)
    assert run(app, peer.port, *lenient) == code


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(
    ("status", "lenient", "code"),
    [(0x0000, [], 0), (0xC001, [], 1), (0xC001, ["--lenient"], 0)],
)
def test_what_the_peer_answers(
    app: str, status: int, lenient: list[str], code: int, run: Callable[..., int], peer: Any
) -> None:
    peer.status = lambda event: status
    assert run(app, peer.port, *lenient) == code


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("lenient", "code"), [([], 1), (["--lenient"], 0)])
def test_no_answer(
    app: str, lenient: list[str], code: int, run: Callable[..., int], peer: Any
) -> None:
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    peer.status = abort
    assert run(app, peer.port, *lenient) == code


@pytest.mark.parametrize("app", APPS)
def test_wrong_arguments(app: str, run: Callable[..., int]) -> None:
    with pytest.raises(SystemExit) as end:
        run(app, 104, "--no-such-option")
    assert end.value.code == 2


def test_a_match_that_cannot_be_written_is_a_failure(
    start_peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom.dataset import Dataset

    from dicomwire.data.codec import DatasetError

    match = Dataset()
    match.PatientID = "1"

    def encode(*_: object) -> bytes:
        raise DatasetError("no")

    handlers = [(evt.EVT_C_FIND, lambda event: iter([(0xFF00, match)]))]
    peer = start_peer(QueryRetrievePresentationContexts, handlers)
    monkeypatch.setattr(findscu, "encode_dataset", encode)
    assert findscu.main([*peer.address, *QUERY, "-q", "-w", "-od", str(tmp_path)]) == 1
