"""Counts the results of storescu, and describes them as text and for JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dicomwire.logs import counted

MB = 1_000_000
ONLY_THE_REST = "with --resume FILE, a run records what was stored, and the next sends the rest"
"""The advice after an interrupted run without --resume."""


@dataclass(slots=True)
class Tally:
    """The results for the files.

    Attributes
    ----------
    sent : int
        Files that the peer stored; `warned` of them with a warning.
    failed : int
        Files that the peer did not store; `failures` has an entry for each.
    skipped : int
        Files in folders that are not DICOM files, or are DICOMDIRs.
    resumed : int
        Files that an earlier run stored, which are not sent again.
    """

    sent: int = 0
    warned: int = 0
    failed: int = 0
    skipped: int = 0
    resumed: int = 0
    size: int = 0
    seconds: float = 0.0
    associations: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, path: str, reason: str, status: int | None = None) -> None:
        """Note that a file was not stored."""
        self.failed += 1
        self.failures.append({"path": path, "reason": reason, "status": status})

    @property
    def rate(self) -> float:
        """The rate of stored data, in MB (1,000,000 bytes) per second."""
        return self.size / MB / self.seconds if self.seconds else 0.0

    def progress(self, done: int, count: int, total: int, seconds: float) -> str:
        """Return the progress as text: `done` of `count` files with `total` bytes."""
        share = self.size * 100 // total if total else 100
        rate = self.size / MB / seconds if seconds else 0.0
        files = counted(count, "file")
        return f"{done} of {files}, {share} % of {total / MB:.1f} MB, {rate:.1f} MB/s"

    def as_dict(self) -> dict[str, Any]:
        """Return the summary that is printed as JSON."""
        return {
            "sent": self.sent,
            "warned": self.warned,
            "failed": self.failed,
            "skipped": self.skipped,
            "resumed": self.resumed,
            "bytes": self.size,
            "seconds": round(self.seconds, 6),
            "mb_per_second": round(self.rate, 3),
            "associations": self.associations,
            "failures": self.failures,
        }

    def __str__(self) -> str:
        resumed = f"{self.resumed} sent earlier, " if self.resumed else ""
        return (
            f"{resumed}{self.sent} sent ({self.warned} with a warning), {self.failed} failed, "
            f"{self.size / MB:.1f} MB in {self.seconds:.2f} s: {self.rate:.1f} MB/s"
        )
