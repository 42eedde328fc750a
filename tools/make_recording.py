"""Write docs/terminal.svg, a picture of a terminal: `python tools/make_recording.py`.

The commands in it are run: an archive on a free port, and those of `make try`.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from try_archive import commands

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "terminal.svg"
COLUMNS = 108
_CELL, _LINE, _MARGIN = 7.8, 19, 20
_COMMAND = [sys.executable, "-m", "dicomwire"]


def on_a_terminal(command: list[str]) -> str:
    """Return what a command prints on a terminal, without what it wiped out."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    with suppress(OSError):  # the end of the terminal
        while data := os.read(ours, 4096):
            output += data
    os.close(ours)
    if process.wait():
        raise SystemExit(output.decode())
    lines = output.decode().replace("\r\n", "\n").rstrip("\n")
    return re.sub(r"[^\n]*\r\x1b\[K", "", lines)


def recorded() -> Iterator[str]:
    """Run the commands and yield the lines of the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.Popen(
            [*_COMMAND, "node", "--port", "0", "--folder", f"{folder}/archive", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert archive.stdout is not None
            port = str(json.loads(archive.stdout.readline())["port"])
            for shown, command in commands(port, f"{folder}/received"):
                output = on_a_terminal([*_COMMAND, *command])
                yield f"$ {shown}".replace(port, "11112")
                for line in output.splitlines():
                    yield line.replace(port, "11112").replace(folder, "/home/me")
                yield ""
        finally:
            archive.terminate()
            archive.wait()


def picture(lines: list[str]) -> str:
    """Return the lines as a picture."""
    width, height = round(COLUMNS * _CELL + 2 * _MARGIN), len(lines) * _LINE + 2 * _MARGIN
    texts = []
    for number, line in enumerate(lines):
        shown = line if len(line) <= COLUMNS else f"{line[: COLUMNS - 1]}…"
        colour = "#8bd5ca" if line.startswith("$ ") else "#e6e6e6"
        y = _MARGIN + (number + 1) * _LINE - 5
        text = html.escape(shown)
        texts.append(
            f'<text x="{_MARGIN}" y="{y}" fill="{colour}" xml:space="preserve">{text}</text>'
        )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            "<title>dicomwire on the command line</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1e2030"/>',
            '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">',
            *texts,
            "</g>",
            "</svg>",
            "",
        )
    )


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(picture([*recorded()][:-1]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
