"""Send an image to an archive that runs, ask for it and get it back: what `make try` does.

    python tools/try_archive.py [PORT]

The image comes with pydicom.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file


def commands(port: str, folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield commands: as people type them, and as a list of arguments."""
    image = str(get_testdata_file("CT_small.dcm"))
    study = ("-S", "-k", "QueryRetrieveLevel=STUDY")
    uid = f"StudyInstanceUID={dcmread(image, stop_before_pixels=True).StudyInstanceUID}"
    for arguments in (
        ["echoscu", "localhost", port, "-v"],
        ["storescu", "localhost", port, image],
        ["findscu", "localhost", port, *study, "-k", "PatientName", "-k", "StudyInstanceUID"],
        ["getscu", "localhost", port, *study, "-k", uid, "-od", folder],
    ):
        shown = shlex.join(["dicomwire", *arguments])
        yield shown.replace(image, "CT_small.dcm").replace(folder, "received"), arguments


def main(arguments: list[str] | None = None) -> int:
    """Run the commands; return 0 if all succeed."""
    port = (sys.argv[1:] if arguments is None else arguments)[:1] or ["11112"]
    with tempfile.TemporaryDirectory() as folder:
        for shown, command in commands(port[0], folder):
            print(f"$ {shown}", flush=True)
            done = subprocess.run([sys.executable, "-m", "dicomwire", *command], check=False)
            if done.returncode:
                print(f"It failed. Does an archive run on port {port[0]}? make serve starts one.")
                return done.returncode
            print(flush=True)
        names = [path.name for path in Path(folder).iterdir()]
        print(f"Received again: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
