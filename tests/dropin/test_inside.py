"""Runs what is in the folder `inside`: tests that import the drop-in, in a process of their own."""

from __future__ import annotations

from pathlib import Path

INSIDE = sorted(Path(__file__).with_name("inside").glob("inside_*.py"))


def test_inside(drop_in, tmp_path):
    options = (
        "-o",
        "python_files=inside_*.py",
        "-p",
        "no:xdist",
        "--basetemp",
        tmp_path / "inside",
    )
    drop_in.run("-m", "pytest", "-q", *options, *INSIDE)
