from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomwire import sop_class
from dicomwire.apps.files import file_name, find_files, short_name
from dicomwire.data.sinks import plain_name

PREFIXES = {
    "CT": sop_class.CTImageStorage,
    "CTE": sop_class.EnhancedCTImageStorage,
    "MR": sop_class.MRImageStorage,
    "MRE": sop_class.EnhancedMRImageStorage,
    "PT": sop_class.PositronEmissionTomographyImageStorage,
    "PTE": sop_class.EnhancedPETImageStorage,
    "RI": sop_class.RTImageStorage,
    "RD": sop_class.RTDoseStorage,
    "RP": sop_class.RTPlanStorage,
    "RS": sop_class.RTStructureSetStorage,
    "CR": sop_class.ComputedRadiographyImageStorage,
    "US": sop_class.UltrasoundImageStorage,
    "USE": sop_class.EnhancedUSVolumeStorage,
    "XA": sop_class.XRayAngiographicImageStorage,
    "XAE": sop_class.EnhancedXAImageStorage,
    "NM": sop_class.NuclearMedicineImageStorage,
    "SC": sop_class.SecondaryCaptureImageStorage,
    "UN": sop_class.EncapsulatedPDFStorage,
}


@pytest.mark.parametrize(("prefix", "uid"), PREFIXES.items())
def test_prefixes(prefix: str, uid: str) -> None:
    assert short_name(uid) == prefix
    assert file_name(uid, "1.2.3") == f"{prefix}.1.2.3"


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        ("1.2.840.113619.2", "1.2.840.113619.2"),
        ("7", "7"),
        ("1" * 64, "1" * 64),
        ("../../x", ".._..__"),
        ("/etc/passwd", "___________"),
        ("1.2/3", "1.2_3"),
        ("1.2\\3", "1.2_3"),
        ("1.2\0", "1.2_"),
        ("C:1", "__1"),
        ("1.2\n", "1.2_"),
        ("\u0661\u0662", "__"),
        (".", "_"),
        ("..", "__"),
        ("1.2.", "1.2_"),
        ("", "_"),
        (None, "_"),
    ],
)
def test_a_uid_does_not_choose_a_path(uid: str | None, expected: str) -> None:
    assert file_name(sop_class.CTImageStorage, uid) == f"CT.{expected}"


@given(st.text() | st.text("0123456789./\\_:~\0 ", max_size=80))
def test_any_text_makes_a_plain_name(uid: str) -> None:
    name = file_name(None, uid)
    assert re.fullmatch(r"UN\.[0-9._]{0,63}[0-9_]", name, re.ASCII)
    assert plain_name(name) == name


def test_long_uids_stay_apart() -> None:
    one, other = "1." * 5000, "1." * 5000 + "1"
    assert file_name(None, one) != file_name(None, other)
    assert len(file_name(None, one)) == len("UN.") + 64


def test_find_files_passes_over_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    found = find_files([str(tmp_path), str(tmp_path / "pipe"), "missing"], True)
    assert found.files == {str(tmp_path / "a")}
    assert found.lost == [str(tmp_path / "pipe"), "missing"]
    assert found.named == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_find_files_tells_of_folders_that_cannot_be_read(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    found = find_files([str(tmp_path)], True)
    assert (found.files, found.lost) == (set(), [str(closed)])
