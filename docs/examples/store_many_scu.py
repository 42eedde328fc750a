"""Sends any number of DICOM files: in parallel, with retries, and resumable."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dicomwire import AE, Retry, send_many


def send(
    paths: Iterable[Path], ledger: Path, host: str = "127.0.0.1", port: int = 11112
) -> Counter[str]:
    """Return the numbers of files stored, stored before, and not stored."""
    outcome: Counter[str] = Counter()
    with send_many(
        AE("STORESCU"),
        (host, port),
        paths,
        associations=4,  # at a time
        window=16,  # files outstanding on each, if the peer grants that
        retry=Retry(attempts=5, delay=1.0),
        ledger=ledger,
    ) as results:
        for sent in results:
            if sent.is_resumed:
                outcome["stored already"] += 1
            elif sent.is_stored:
                outcome["stored"] += 1
            else:
                outcome["not stored"] += 1
                reason = sent.failure if sent.code is None else f"status 0x{sent.code:04X}"
                print(f"{sent.item}: {reason}", file=sys.stderr)
    return outcome


if __name__ == "__main__":
    ledger, folder = Path(sys.argv[1]), Path(sys.argv[2])
    print(dict(send(sorted(folder.rglob("*.dcm")), ledger)))
