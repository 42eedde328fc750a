"""What an archive has, in numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backends import Backend, configuration_of, options_of
from living_archive import LivingArchive
from running_node import running

from dicomwire.apps.node import main
from dicomwire.node.overview import status
from dicomwire.node.statistics import statistics


def test_everything_is_added_up(tmp_path: Path, backend: Backend) -> None:
    with LivingArchive(backend.configuration(tmp_path / "archive")) as archive:
        assert statistics(archive.index)["instances"] == 0
        for number in range(3):
            archive.put(number)
        archive.put(1, "1.2.4", Modality="MR", pixels=5000)
        found = statistics(archive.index)
        sizes = []
        for each in archive.index.stored():
            with archive.objects.open(each.file) as file:
                sizes.append(len(file.read()))
        assert found["bytes"] == sum(sizes) == status(archive.index)["objects"]["bytes"]
        levels = ("patients", "studies", "series", "instances")
        assert [found[name] for name in levels] == [1, 2, 2, 4]
        modalities = {each["modality"]: each for each in found["modalities"]}
        assert (modalities["CT"]["studies"], modalities["CT"]["instances"]) == (1, 3)
        assert modalities["MR"]["bytes"] == max(sizes)
        today = datetime.now(UTC).date().isoformat()
        assert [(each["day"], each["instances"]) for each in found["days"]] == [(today, 4)]
        assert [each["study"] for each in found["largest_studies"]] == ["1.2.4", "1.2.3"]


@pytest.mark.only_with("sqlite", "it reads the plan of a query")
def test_they_need_one_index_of_the_database(tmp_path: Path) -> None:
    with LivingArchive(configuration_of(tmp_path / "archive")) as archive:
        query = (
            "EXPLAIN QUERY PLAN SELECT series, count(*), sum(size) FROM instance GROUP BY series"
        )
        with archive.index.reading() as connection:
            plan = str(connection.exec_driver_sql(query).all())
        assert "USING COVERING INDEX ix_instance_series_received_size" in plan


def test_the_commands_show_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "archive"
    with LivingArchive(configuration_of(folder)) as archive:
        archive.put(1)
    assert main(["stats", *options_of(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["modalities"][0]["modality"] == "CT"
    assert main(["stats", *options_of(folder)]) == 0
    told = capsys.readouterr().out
    assert "1 patient, 1 study, 1 series, 1 instance" in told
    assert "  CT: 1 instance," in told
    with running(folder):
        assert main(["status", *options_of(folder)]) == 0
    assert f"free on the disk of {folder}" in capsys.readouterr().out
