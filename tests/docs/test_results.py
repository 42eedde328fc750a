"""The pages that show the results of benchmarks show what was saved, and nothing by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import saved
from benchmarks.cells import Cell, Sample
from benchmarks.report import Result

ORDER = ["scp-echo", "scu-echo", "growth-10000"]


def result(name: str, rate: int) -> Result:
    def never(_: object) -> Sample:
        raise AssertionError

    competitors = {"dicomwire": (), "DCMTK storescp --ignore": ()}
    cell = Cell(name, name, 100, competitors, never)
    ours, theirs = Sample(100, 100 / rate, 1024), Sample(100, 1.0, 1024)
    return Result(cell, {"dicomwire": [ours], "DCMTK storescp --ignore": [theirs]})


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LATEST", "TABLE", "README"):
        monkeypatch.setattr(saved, name, tmp_path / name)
    (tmp_path / "README").write_text(f"Before\n{saved.MARKS[0]}old\n{saved.MARKS[1]}\nAfter\n")
    return tmp_path


def test_the_pages_show_what_was_saved() -> None:
    known = saved.latest()
    assert saved.TABLE.read_text() == saved.results_page(known)
    readme = saved.README.read_text()
    assert readme == saved.with_table(readme, known)


def test_a_run_replaces_only_the_cells_that_it_measured(pages: Path) -> None:
    saved.save([result("scp-echo", 100), result("scu-echo", 300)], "Monday", ORDER)
    saved.save([result("scp-echo", 200)], "Tuesday", ORDER)
    page = (pages / "TABLE").read_text()
    assert "- Tuesday: scp-echo.\n- Monday: scu-echo." in page
    assert "| scp-echo | dicomwire | 200 |" in page
    assert "| scu-echo | dicomwire | 300 |" in page
    assert "| scp-echo | dicomwire | 100 |" not in page


def test_the_table_of_the_readme_has_the_ratios_and_nothing_else_changes(pages: Path) -> None:
    saved.save([result("scp-echo", 250)], "Monday", ORDER)
    begin, rest = (pages / "README").read_text().split(saved.MARKS[0])
    table, end = rest.split(saved.MARKS[1])
    assert (begin, end) == ("Before\n", "\nAfter\n")
    assert "| C-ECHO, server / client | 2.50 / - |" in table
    assert "old" not in table


def test_what_was_saved_of_a_cell_that_is_no_more_is_forgotten(pages: Path) -> None:
    saved.save([result("scp-echo", 1), result("scu-echo", 1)], "Monday", ORDER)
    saved.save([], "Tuesday", ["scp-echo"])
    assert [*saved.latest()] == ["scp-echo"]
    assert "scu-echo" not in (pages / "TABLE").read_text()
