"""Windows and parallel associations with servers that grant no window."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from archive import LOCALHOST, make_image
from peers import HERE, Conversation, Peers, run, serving
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire import AE, Settings, build_context, evt, send_many

COUNT = 40
Receiver = Callable[[Peers, Path, Path], AbstractContextManager[int]]


@contextmanager
def of_dcmtk(peers: Peers, work: Path, received: Path) -> Iterator[int]:
    program = peers.dcmtk("storescp")
    with serving(work, lambda port: [program, "--fork", "-od", received, "+B", port]) as port:
        yield port


@contextmanager
def of_pynetdicom(peers: Peers, work: Path, received: Path) -> Iterator[int]:
    command = (peers.pynetdicom(), HERE / "peer_storage.py", "receive", received)
    with Conversation(*command, json.dumps([CTImageStorage])) as conversation:
        yield conversation.greeting


RECEIVERS: dict[str, Receiver] = {"dcmtk": of_dcmtk, "pynetdicom": of_pynetdicom}


@pytest.fixture(params=RECEIVERS)
def receiver(
    request: pytest.FixtureRequest, peers: Peers, tmp_path: Path
) -> Iterator[tuple[int, Path]]:
    work, received = tmp_path / "work", tmp_path / "received"
    work.mkdir()
    received.mkdir()
    with RECEIVERS[request.param](peers, work, received) as port:
        yield port, received


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    paths = []
    for number in range(COUNT):
        ds = make_image(1, 1, 1, number + 1)
        paths.append(folder / f"{number:03}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_a_window_that_is_not_granted(receiver: tuple[int, Path], files: list[Path]) -> None:
    port, received = receiver
    sop_class, syntax = CTImageStorage, ExplicitVRLittleEndian
    with AE().associate(LOCALHOST, port, [build_context(sop_class, syntax)], window=16) as assoc:
        assert assoc.is_established
        assert assoc.operations_window == 1
        results = list(assoc.send_c_stores(files))
    assert assoc.is_released
    assert [each.item for each in results if each.is_stored] == files
    assert len(list(received.iterdir())) == COUNT


def test_parallel_associations(receiver: tuple[int, Path], files: list[Path]) -> None:
    port, received = receiver
    with send_many(AE(), (LOCALHOST, port), files, associations=4, window=8) as results:
        assert all(each.is_stored for each in results)
    assert len(list(received.iterdir())) == COUNT


def test_storescu_of_dcmtk_and_a_server_that_would_grant(peers: Peers, files: list[Path]) -> None:
    ae = AE(settings=Settings(operations_window=16))
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    stored = []
    server = ae.start_server(
        (LOCALHOST, 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda event: stored.append(event.message_id) or 0)],
    )
    assert server is not None
    try:
        run(peers.dcmtk("storescu"), "-xe", LOCALHOST, server.server_address[1], *files)
    finally:
        server.shutdown()
    assert len(stored) == COUNT
