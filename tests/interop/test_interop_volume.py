"""Objects of many PDUs, folders of files, and senders side by side, between DCMTK and us."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archive import LOCALHOST, WHEEL, files_in, make_image
from peers import Peers, run, serving
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicomwire.apps import echoscu, storescu

STUDIES = [WHEEL / "dicomdirtests" / "77654033", WHEEL / "dicomdirtests" / "98892003"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 4 MB, no two parts of which are the same."""
    ds = make_image(1, 1, 1, 1)
    ds.Rows, ds.Columns = 1024, 2048
    ds.PixelData = b"".join(number.to_bytes(4, "little") for number in range(1 << 20))
    path = tmp_path_factory.mktemp("large") / "large.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder that a server puts what it receives into."""
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def our_storescp(files: Path, *options: object) -> Callable[[int], list[object]]:
    command = [sys.executable, "-m", "dicomwire", "storescp", "-x=", "-od", files, *options]
    return lambda port: [*command, port]


def dcmtk_storescp(peers: Peers, files: Path, *options: object) -> Callable[[int], list[object]]:
    command = [peers.dcmtk("storescp"), "+B", "-od", files, *options]
    return lambda port: [*command, port]


def only_dataset(files: Path) -> Dataset:
    (path,) = files.iterdir()
    return dcmread(path)


@pytest.mark.parametrize("longest", [4096, 16382, 131072])
def test_large_object_to_storescp(
    peers: Peers, large: Path, tmp_path: Path, files: Path, longest: int
) -> None:
    with serving(tmp_path, dcmtk_storescp(peers, files, "-pdu", longest)) as port:
        assert storescu.main([LOCALHOST, str(port), str(large), "--strict"]) == 0
    assert only_dataset(files) == dcmread(large)


@pytest.mark.parametrize("longest", [0, 1000, 16382, 1_000_000])
@pytest.mark.parametrize("sender", ["dcmsend", "storescu"])
def test_large_object_from_dcmtk(
    peers: Peers, large: Path, tmp_path: Path, files: Path, sender: str, longest: int
) -> None:
    with serving(tmp_path, our_storescp(files, "-pdu", longest)) as port:
        run(peers.dcmtk(sender), LOCALHOST, port, large)
    assert only_dataset(files) == dcmread(large)


@pytest.fixture
def expected() -> set[str]:
    """The SOP Instance UIDs of the files in the studies."""
    paths = [path for study in STUDIES for path in study.rglob("*") if path.is_file()]
    return {dcmread(path).SOPInstanceUID for path in paths}


def test_folder_from_storescu(
    peers: Peers, tmp_path: Path, files: Path, expected: set[str]
) -> None:
    with serving(tmp_path, our_storescp(files)) as port:
        run(peers.dcmtk("storescu"), "+sd", "+r", LOCALHOST, port, *STUDIES)
    assert files_in(files).keys() == expected


def test_folder_to_storescp(peers: Peers, tmp_path: Path, files: Path, expected: set[str]) -> None:
    with serving(tmp_path, dcmtk_storescp(peers, files)) as port:
        assert storescu.main([LOCALHOST, str(port), "-r", "--strict", *map(str, STUDIES)]) == 0
    assert files_in(files).keys() == expected


def test_eight_senders_at_a_time(peers: Peers, tmp_path: Path, files: Path) -> None:
    images = [make_image(1, 1, sender, number) for sender in range(8) for number in range(20)]
    for ds in images:
        folder = tmp_path / f"sender{ds.SeriesNumber}"
        folder.mkdir(exist_ok=True)
        ds.save_as(folder / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    dcmsend = peers.dcmtk("dcmsend")
    with (
        serving(tmp_path, our_storescp(files)) as port,
        ThreadPoolExecutor(8) as pool,
    ):
        sent = [
            pool.submit(run, dcmsend, "+sd", LOCALHOST, port, tmp_path / f"sender{sender}")
            for sender in range(8)
        ]
    for each in sent:
        each.result()
    assert files_in(files).keys() == {ds.SOPInstanceUID for ds in images}


@pytest.mark.parametrize("ending", [[], ["--abort"]])
def test_echoscu_to_our_echoscp(peers: Peers, tmp_path: Path, ending: list[str]) -> None:
    command = [sys.executable, "-m", "dicomwire", "echoscp"]
    with serving(tmp_path, lambda port: [*command, port]) as port:
        run(peers.dcmtk("echoscu"), "--repeat", 5, *ending, LOCALHOST, port)
        run(peers.dcmtk("echoscu"), LOCALHOST, port)


@pytest.mark.parametrize("ending", [[], ["--abort"]])
def test_our_echoscu_to_storescp(peers: Peers, tmp_path: Path, ending: list[str]) -> None:
    command = [peers.dcmtk("storescp"), "--ignore"]
    with serving(tmp_path, lambda port: [*command, port]) as port:
        assert echoscu.main([LOCALHOST, str(port), "--repeat", "5", *ending]) == 0
        assert echoscu.main([LOCALHOST, str(port)]) == 0
