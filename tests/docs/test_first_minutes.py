"""What the README and the first page tell to type, typed; and the package as people install it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from queue import Queue
from types import ModuleType

import pydicom
import pytest

from dicomwire.__main__ import main
from dicomwire.threaded.server import AssociationServer

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(pydicom.__file__).parent / "data" / "test_files"
WAIT = 60


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def no_blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue[AssociationServer]]:
    """Have servers of applications run until the end of the test; return what has begun."""
    servers: Queue[AssociationServer] = Queue()
    stop = threading.Event()

    def serve_forever(server: AssociationServer) -> None:
        servers.put(server)
        stop.wait(WAIT)
        raise KeyboardInterrupt

    monkeypatch.setattr(AssociationServer, "serve_forever", serve_forever)
    yield servers
    stop.set()


def console_commands(page: Path) -> list[list[str]]:
    """Return the commands of a page that run our applications."""
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "$ "]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("dicomwire ")]
    return [[word for word in line[1:] if not word.startswith(">")] for line in words]


def test_the_commands_of_the_first_page(
    no_blocking: Queue[AssociationServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "ct.dcm").symlink_to(IMAGES / "CT_small.dcm")
    (serve, *others) = console_commands(ROOT / "docs" / "start.md")
    assert serve[0] == "storescp"
    arguments = ["0" if each == "11112" else each for each in [*serve, "-ba", "127.0.0.1"]]
    thread = threading.Thread(target=main, args=[arguments])
    thread.start()
    port = str(no_blocking.get(timeout=WAIT).server_address[1])
    for command in others:
        assert main([port if each == "11112" else each for each in command]) == 0
    assert [path.name[:3] for path in (tmp_path / "received").iterdir()] == ["CT."]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_a_page_have_arguments_that_exist(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in console_commands(page):
        app = import_module(f"dicomwire.apps.{command[0]}")
        monkeypatch.setattr(app, "run", lambda options, application: 0)
        assert main(command) == 0, command


def test_the_readme_begins_with_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+): .*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert typed[:2] == ["serve", "try"]
    assert set(typed) <= targets


def test_what_make_try_does(tmp_path: Path) -> None:
    """The archive prints a command that works; `make try` runs others like it."""
    archive = subprocess.Popen(
        [sys.executable, "-m", "dicomwire", "node", "--port", "0", "--folder", str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert archive.stdout is not None
        welcome = "".join(iter(archive.stdout.readline, "  or with DCMTK:\n"))
        found = re.search(
            r"^  send      (.*dicomwire.* storescu 127\.0\.0\.1 (\d+)) -r", welcome, re.M
        )
        assert found, welcome
        received = tmp_path / "received"
        for _, command in tool("try_archive").commands(found[2], str(received)):
            assert main(command) == 0
    finally:
        archive.terminate()
        archive.communicate(timeout=WAIT)
    assert [path.name[:3] for path in received.iterdir()] == ["CT."]


def test_the_picture_shows_what_make_try_does() -> None:
    shown = (ROOT / "docs" / "terminal.svg").read_text()
    for line, _ in tool("try_archive").commands("11112", "/nowhere"):
        assert line[:60] in shown
    assert "/work" not in shown
    assert str(IMAGES) not in shown


def test_the_wheel_can_be_installed_and_run(tmp_path: Path) -> None:
    build = pytest.importorskip("hatchling.builders.wheel")
    builder = build.WheelBuilder(str(ROOT))
    (wheel,) = builder.build(directory=str(tmp_path / "dist"))
    folder = tmp_path / "new"
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Without the network: what it depends on is taken from this environment.
    quiet = ["--no-deps", "--no-index", "--no-compile", "--target", str(packages)]
    subprocess.run([*pip, *quiet, wheel], check=True, timeout=WAIT)
    paths = (packages, Path(pydicom.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    code = "import dicomwire, sys; from dicomwire.__main__ import main; print(dicomwire.__file__)"
    done = subprocess.run(
        [str(folder / "bin" / "python"), "-c", f"{code}; sys.exit(main(['--version']))"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    where, version = done.stdout.split("\n", 1)
    assert Path(where).is_relative_to(packages)
    assert version.startswith("dicomwire ")


def test_the_sdist_has_what_the_wheel_is_made_of(tmp_path: Path) -> None:
    build = pytest.importorskip("hatchling.builders.sdist")
    (archive,) = build.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    import tarfile

    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/dicomwire/py.typed"} <= names
    assert not [name for name in names if name.startswith((".venv", "docs/_build"))]
