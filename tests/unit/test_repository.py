"""The rules that the repository itself keeps, where no linter checks them.

Each test names the files that break its rule.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dicomwire"
GENERATED = {"tables.py"}
LONGEST_MODULE = 600

MODULES = sorted(PACKAGE.rglob("*.py"))
PROTOCOL_MAY_IMPORT = ("dicomwire.errors", "dicomwire.protocol", "dicomwire.registry")


def names(paths: Iterator[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def imports(module: Path) -> Iterator[str]:
    """Yield the names of the modules that a module imports."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "." * node.level


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """The modules of ours that a module imports, those for types included."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (named & known) or ({node.module} & known)
    return found - {module_name(path)}


def has_docstring(module: Path) -> bool:
    return ast.get_docstring(parsed(module)) is not None


def test_nothing_in_the_library_sleeps() -> None:
    sleeps = re.compile(r"\btime\.sleep\b|from time import .*\bsleep\b")
    assert names(path for path in MODULES if sleeps.search(path.read_text())) == []


def test_no_module_is_too_long() -> None:
    written = (path for path in MODULES if path.name not in GENERATED)
    assert (
        names(path for path in written if len(path.read_text().splitlines()) > LONGEST_MODULE) == []
    )


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    known = {module_name(path) for path in MODULES}
    left = {module_name(path): imported_modules(path, known) for path in MODULES}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]

    assert sorted(left) == []


def test_every_module_says_what_lives_there() -> None:
    assert names(path for path in MODULES if not has_docstring(path)) == []


def test_the_protocol_knows_nothing_of_ours_but_errors_and_tables() -> None:
    strays = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (PACKAGE / "protocol").rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] == "dicomwire" and not name.startswith(PROTOCOL_MAY_IMPORT)
    }
    assert strays == set()


def test_imports_are_absolute() -> None:
    relative = (path for path in MODULES if any(name.startswith(".") for name in imports(path)))
    assert names(relative) == []


def test_types_are_published() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_test_modules_have_unique_names() -> None:
    seen: dict[str, list[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        seen.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    assert [paths for paths in seen.values() if len(paths) > 1] == []


def test_the_changelog_has_an_entry_for_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\n## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pydicom_is_the_only_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [re.match(r"[\w-]+", name).group() for name in project["dependencies"]] == ["pydicom"]


@pytest.mark.parametrize("target", ["serve", "test", "lint", "bench", "docs"])
def test_the_makefile_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:.* ## \w", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_continuous_integration_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
