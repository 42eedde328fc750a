"""A query server for benchmarks, the same for dicomwire and pynetdicom: their API is one.

    find_scp.py LIBRARY PORT COUNT

The matches are made before it serves, so that what is timed is the library, and not pydicom making
datasets.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pydicom.dataset import Dataset

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
VERIFICATION = "1.2.840.10008.1.1"


def make_match(number: int) -> Dataset:
    match = Dataset()
    match.QueryRetrieveLevel = "PATIENT"
    match.PatientName = f"Doe^Jane{number}"
    match.PatientID = str(number)
    match.PatientBirthDate = "19700101"
    match.PatientSex = "F"
    return match


def find(event: Any, matches: list[Dataset]) -> Iterator[tuple[int, Dataset]]:
    for match in matches:
        yield 0xFF00, match


if __name__ == "__main__":
    library, port, count = sys.argv[1:]
    package = import_module(library)
    made = [make_match(number) for number in range(int(count))]
    ae = package.AE()
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(PATIENT_ROOT_FIND)
    handlers = [(package.evt.EVT_C_FIND, find, [made])]
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=handlers)
