"""Installing the drop-in: alone, and where the real pynetdicom is, or comes later.

In place of the real one there is a package of the same name with nothing in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from dropin_processes import ROOT

pytest.importorskip("hatchling")

TOOLS = {str(Path(find_spec(name).origin).parents[1]) for name in ("pip", "hatchling", "pydicom")}
METADATA = "Metadata-Version: 2.1\nName: pynetdicom\nVersion: 3.0.4\n"
FOUND = "from importlib.util import find_spec; print(find_spec('pynetdicom').origin)"
IMPORT = "import pynetdicom; print(pynetdicom.__file__)"


class Environment:
    """A new virtual environment, which shares the tools and dicomwire of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=os.name != "nt")
        paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        self.packages = Path(paths["purelib"])
        self._python = Path(paths["scripts"], "python")
        self._tools = os.pathsep.join([*sorted(TOOLS), str(ROOT / "src")])

    def python(self, *args: object) -> subprocess.CompletedProcess[str]:
        """Run the Python of the environment."""
        return subprocess.run(
            [str(self._python), *map(str, args)],
            env=os.environ | {"PYTHONPATH": self._tools},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def pip(self, *args: object) -> subprocess.CompletedProcess[str]:
        """Run pip, which is not to ask any index."""
        return self.python("-m", "pip", "--disable-pip-version-check", *args)

    def install_real(self) -> Path:
        """Put a package in that has the name, and return where it is."""
        module = self.packages / "pynetdicom" / "__init__.py"
        module.parent.mkdir()
        module.write_text("")
        info = self.packages / "pynetdicom-3.0.4.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA)
        return module

    def which(self) -> Path:
        """Return what would be imported."""
        return Path(self.python("-c", FOUND).stdout.strip())


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "environment")


@pytest.fixture
def source(tmp_path):
    """A copy of the drop-in, since a build may leave files."""
    return shutil.copytree(ROOT / "dropin", tmp_path / "dropin", ignore=lambda *_: ["__pycache__"])


INSTALL = ("install", "--no-index", "--no-deps", "--no-build-isolation", "--no-compile")


def test_it_is_refused_beside_the_real_one(environment, source):
    module = environment.install_real()
    before = sorted(environment.packages.rglob("*"))
    done = environment.pip(*INSTALL, source)
    assert done.returncode != 0
    assert "pynetdicom 3.0.4 is installed in" in done.stderr + done.stdout
    assert "pip uninstall pynetdicom" in done.stderr + done.stdout
    assert sorted(environment.packages.rglob("*")) == before
    assert environment.which() == module


def test_a_real_one_that_comes_later_is_not_used_which_is_warned_of_once(environment, source):
    done = environment.pip(*INSTALL, source)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = environment.which()
    assert ours.parts[-3:] == ("dicomwire_pynetdicom", "pynetdicom", "__init__.py")
    assert environment.python("-m", "pynetdicom", "--version").stdout.startswith("dicomwire ")
    done = environment.python("-c", IMPORT)
    assert (done.stdout, done.stderr) == (f"{ours}\n", "")
    module = environment.install_real()
    assert environment.which() == ours
    done = environment.python("-c", f"{IMPORT}; import pynetdicom.ae")
    assert done.stdout == f"{ours}\n"
    said = done.stderr
    assert said.count("UserWarning") == 1
    assert f"the real one is installed too, in {module.parent}" in said
    assert "pip uninstall pynetdicom" in said
    done = environment.pip("uninstall", "--yes", "dicomwire-pynetdicom")
    assert done.returncode == 0, done.stdout + done.stderr
    assert environment.which() == module
    assert not ours.exists()


VIEWER = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "viewer"
version = "1.0"
dependencies = ["pynetdicom>=3,<4"]
[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


def test_a_package_that_requires_pynetdicom_does_not_bring_the_real_one(
    environment, source, tmp_path
):
    viewer = tmp_path / "viewer"
    viewer.mkdir()
    (viewer / "pyproject.toml").write_text(VIEWER)
    install = tuple(option for option in INSTALL if option != "--no-deps")
    done = environment.pip(*install, viewer)
    assert "pynetdicom" in done.stderr
    assert done.returncode != 0
    for project in (
        source / "requirement",
        source,
    ):  # in this order: the one does not stop the other
        done = environment.pip(*INSTALL, project)
        assert done.returncode == 0, done.stdout + done.stderr
    done = environment.pip(*install, viewer)
    assert done.returncode == 0, done.stdout + done.stderr
    done = environment.python("-c", IMPORT)
    assert Path(done.stdout.strip()).parts[-3] == "dicomwire_pynetdicom"
    assert done.stderr == ""
