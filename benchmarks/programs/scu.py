"""A client for benchmarks, the same for dicomwire and pynetdicom: their API is one.

    scu.py LIBRARY echo PORT PDU COUNT | associate PORT PDU COUNT | store PORT PDU FOLDER
                   | find PORT PDU COUNT

Exits with 1 if anything fails; `associate` prints the seconds that its associations took.
"""

import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from pydicom.dataset import Dataset

HOST = "127.0.0.1"
VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STORED = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7.3")
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def connect(ae: Any, port: int) -> Any:
    assoc = ae.associate(HOST, port)
    if not assoc.is_established:
        sys.exit("no association")
    return assoc


def expect_success(status: Any) -> None:
    if "Status" not in status or status.Status != 0x0000:
        sys.exit(f"failed: {status}")


def echo(ae: Any, port: int, count: str) -> None:
    ae.add_requested_context(VERIFICATION)
    assoc = connect(ae, port)
    for _ in range(int(count)):
        expect_success(assoc.send_c_echo())
    assoc.release()


def associate(ae: Any, port: int, count: str) -> None:
    ae.add_requested_context(VERIFICATION)
    start = perf_counter()
    for _ in range(int(count)):
        connect(ae, port).release()
    print(perf_counter() - start)


def store(ae: Any, port: int, folder: str) -> None:
    for sop_class in STORED:
        ae.add_requested_context(sop_class, EXPLICIT_LITTLE_ENDIAN)
    paths = sorted(Path(folder).iterdir())
    assoc = connect(ae, port)
    for path in paths:
        expect_success(assoc.send_c_store(path))
    assoc.release()


def find(ae: Any, port: int, count: str) -> None:
    ae.add_requested_context(PATIENT_ROOT_FIND)
    query = Dataset()
    query.QueryRetrieveLevel = "PATIENT"
    query.PatientName = query.PatientID = query.PatientBirthDate = query.PatientSex = ""
    assoc = connect(ae, port)
    *matches, (status, _) = assoc.send_c_find(query, PATIENT_ROOT_FIND)
    expect_success(status)
    if len(matches) != int(count):
        sys.exit(f"{len(matches)} matches")
    assoc.release()


if __name__ == "__main__":
    library, action, port, pdu, argument = sys.argv[1:]
    ae = import_module(library).AE()
    ae.maximum_pdu_size = int(pdu)
    {"echo": echo, "associate": associate, "store": store, "find": find}[action](
        ae, int(port), argument
    )
