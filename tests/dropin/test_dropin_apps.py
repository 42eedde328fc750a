"""The applications under the names and paths of pynetdicom."""

from __future__ import annotations

import re
import signal
import tomllib

from dropin_processes import DROP_IN, ROOT, Server, finish

APPS = ("echoscp", "echoscu", "findscu", "getscu", "movescu", "qrscp", "storescp", "storescu")


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


def test_the_archive(tmp_path):
    config = tmp_path / "qrscp.ini"
    config.write_text("[DEFAULT]\nae_title: HERE\nport: 0\nbind_address: 127.0.0.1\n")
    scp = DROP_IN.start("-m", "pynetdicom", "qrscp", "-c", config, "-v")
    for line in scp.stderr:
        listens = re.search(r"HERE listens on 127\.0\.0\.1, port (\d+)", line)
        if listens:
            break
    finish(DROP_IN.start("-m", "pynetdicom", "echoscu", "127.0.0.1", listens[1]))
    scp.send_signal(signal.SIGINT)
    finish(scp)
    assert (tmp_path / "instances").is_dir()


def test_the_version():
    assert DROP_IN.run("-m", "pynetdicom", "--version").startswith("dicomwire ")
