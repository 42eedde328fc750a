"""The applications under the names and paths of pynetdicom."""

from __future__ import annotations

import tomllib

import pytest
from dropin_processes import DROP_IN, ROOT, Server, finish

from dicomwire.__main__ import APPS


def test_every_application_is_a_script_and_a_module():
    project = tomllib.loads((ROOT / "dropin" / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {app: f"pynetdicom.apps.{app}.{app}:main" for app in APPS}
    mains = ", ".join(f"pynetdicom.apps.{app}.{app}.main" for app in APPS)
    imports = "; ".join(f"import pynetdicom.apps.{app}.{app}" for app in APPS)
    assert DROP_IN.run("-c", f"{imports}; print(len({{{mains}}}))") == f"{len(APPS)}\n"


def test_running_one(implementation):
    server = Server(implementation, "echo_scp.py")
    scu = DROP_IN.start("-m", "pynetdicom", "echoscu", "127.0.0.1", server.port, "-v")
    printed, log = finish(scu)
    assert printed == ""
    for line in (
        "I: Requesting Association",
        "I: Association Accepted",
        "I: Releasing Association",
    ):
        assert f"{line}\n" in log
    server.stop()


@pytest.mark.parametrize("app", sorted({"findscu", "getscu", "movescu", "qrscp"}.difference(APPS)))
def test_those_that_are_not_there_yet(app):
    printed, log = finish(DROP_IN.start("-m", "pynetdicom", app, "127.0.0.1", 104), code=2)
    assert printed == ""
    assert log == f"pynetdicom: dicomwire has no {app} yet\n"


def test_the_version():
    assert DROP_IN.run("-m", "pynetdicom", "--version").startswith("dicomwire ")
