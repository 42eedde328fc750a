"""The files in `deploy/`, as far as that is possible without the programs that use them."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicomwire.apps import echoscu, node
from dicomwire.node.configuration import Configuration, environment, merged

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
INSTRUCTIONS = {
    *("FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"),
    *("ENTRYPOINT",),
}


# --- systemd ----------------------------------------------------------------------------------


def unit(tmp_path: Path) -> Path:
    """Return the unit, with a program and a user that this machine has."""
    text = (DEPLOY / "dicomwire-node.service").read_text()
    text = text.replace("/opt/dicomwire/bin/dicomwire", sys.executable)
    path = tmp_path / "dicomwire-node.service"
    path.write_text(text.replace("User=dicomwire", "User=daemon"))
    return path


def analyze(*arguments: object) -> str:
    """Return what systemd-analyze says."""
    if shutil.which("systemd-analyze") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("systemd-analyze is not installed")
    command = ["systemd-analyze", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    said = analyze("verify", "--man=no", "--recursive-errors=no", unit(tmp_path))
    assert [line for line in said.splitlines() if "dicomwire-node" in line] == []


def test_the_unit_leaves_little_to_an_attacker(tmp_path: Path) -> None:
    """The exposure is at most 2.0 of 10."""
    analyze("security", "--offline=yes", "--threshold=20", unit(tmp_path))


def test_the_unit_starts_a_node() -> None:
    text = (DEPLOY / "dicomwire-node.service").read_text()
    (command,) = re.findall("^ExecStart=(.*)", text, re.MULTILINE)
    _, application, *arguments = shlex.split(command)
    assert application == "node"
    assert node._parser().parse_args(arguments).config == Path("/etc/dicomwire/node.toml")
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)", text, re.MULTILINE)
    assert int(seconds) > Configuration().stop_timeout


# --- Containers -------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line]
    return [(name, rest) for name, rest in pairs]


def test_the_image_runs_a_node_without_root() -> None:
    found = dict(instructions())
    assert set(found) <= INSTRUCTIONS
    assert found["USER"].partition(":")[0] not in ("root", "0")
    _, application, *arguments = json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"])
    assert application == "node"
    node._parser().parse_args(arguments)


def test_the_image_is_healthy_if_the_node_answers_http_and_an_echo() -> None:
    (health,) = (rest for name, rest in instructions() if name == "HEALTHCHECK")
    python, echo = health.partition("CMD")[2].split("&&")
    _, application, *arguments = shlex.split(echo)
    assert application == "echoscu"
    assert echoscu._parser().parse_args(arguments).port == Configuration().port
    _, _, script = shlex.split(python)
    compile(script, "", "exec")
    (environment,) = (rest for name, rest in instructions() if name == "ENV")
    (port,) = re.findall(r"DICOMWIRE_HTTP=(\d+)", environment)
    assert f":{port}/health" in script


def test_the_proxy_tells_what_the_node_needs() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    for field in ("Host $http_host", "X-Forwarded-For $remote_addr", "X-Forwarded-Proto $scheme"):
        assert f"proxy_set_header {field};" in text


def test_the_image_has_extras_that_exist() -> None:
    (install,) = (rest for name, rest in instructions() if "pip install" in rest)
    (extras,) = re.findall(r"\[(.*?)\]", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def nodes(compose: Any) -> list[dict[str, Any]]:
    return [each for name, each in compose["services"].items() if name.startswith("node")]


def test_compose_refers_to_what_it_has(compose: Any) -> None:
    assert len(nodes(compose)) == 2
    for service in compose["services"].values():
        assert service.keys() & {"build", "image"}
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
            assert port.endswith(f":{Configuration().port}")


def test_compose_configures_the_nodes(compose: Any, caplog: pytest.LogCaptureFixture) -> None:
    for service in nodes(compose):
        with caplog.at_level(logging.WARNING):
            configuration = merged(Configuration(), environment(service["environment"]))
        assert caplog.messages == []  # about a variable that is no key
        assert configuration.index.startswith("postgresql+psycopg://")
        assert configuration.objects.startswith("s3://")
        assert float(service["stop_grace_period"].rstrip("s")) > configuration.stop_timeout


def test_compose_makes_the_bucket_before_the_nodes_start(compose: Any) -> None:
    (script,) = compose["services"]["bucket"]["command"]
    for service in nodes(compose):
        bucket, _, _ = (
            service["environment"]["DICOMWIRE_OBJECTS"].removeprefix("s3://").partition("/")
        )
        assert f"s3.bucket.create -name {bucket} " in script
        assert service["depends_on"]["bucket"] == {"condition": "service_completed_successfully"}


def test_compose_has_no_password(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", value)
