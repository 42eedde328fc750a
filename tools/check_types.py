"""Check the types of what programs see: the public API, the examples, the README and the pages.

    python tools/check_types.py

mypy and pyright must both find no error. The code on a page is checked as one program, that of each
block of the README as a program of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKED = [ROOT / "tests" / "typing", ROOT / "docs" / "examples"]
LENIENT = "# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls"
"""On the pages, handlers may do without annotations, so that they are easy to read."""
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """Return the code of the README and the pages, by the name of a module for it."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    found = {f"readme_{number}": block for number, block in enumerate(blocks, 1)}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts)
        if blocks := _BLOCK.findall(page.read_text(encoding="utf-8")):
            found[name] = "\n".join([LENIENT, *blocks])
    return found


def run(tool: str, *arguments: str) -> int:
    """Run `tool` of this environment; return its exit code."""
    command = [sys.executable, "-m", tool, *arguments]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def main() -> int:
    """Run both checkers; return 0 if neither finds an error."""
    with tempfile.TemporaryDirectory() as folder:
        for name, code in programs().items():
            Path(folder, f"{name}.py").write_text(code, encoding="utf-8")
        checked = [*map(str, CHECKED), folder]
        codes = [
            run("mypy", "--strict", *checked),
            run("pyright", "--pythonpath", sys.executable, *checked),
        ]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
