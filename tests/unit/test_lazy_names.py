"""The names of the package, which are imported when asked for, and the types of UIDs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import dicomwire


def test_every_name_can_be_had() -> None:
    names: dict[str, object] = {}
    exec("from dicomwire import *", names)
    assert set(dicomwire.__all__) <= set(names)
    assert set(dicomwire.__all__) <= set(dir(dicomwire))


def test_modules_can_be_had_without_an_import_of_their_own() -> None:
    program = "import dicomwire; print(dicomwire.sop_class.Verification, dicomwire.status.Status)"
    assert _run(program) == "1.2.840.10008.1.1 <enum 'Status'>"


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dicomwire.nothing  # noqa: B018


VALUES = [
    ("", "build_context('1.2').abstract_syntax"),
    ("", "build_context('1.2').transfer_syntax[0]"),
    ("", "VerificationPresentationContexts[0].abstract_syntax"),
    ("", "VerificationPresentationContexts[0].transfer_syntax[0]"),
    ("", "ALL_TRANSFER_SYNTAXES[0]"),
    ("", "DEFAULT_TRANSFER_SYNTAXES[0]"),
    ("", "IMPLEMENTATION_CLASS_UID"),
    ("", "AE().implementation_class_uid"),
    (".ae", "AE().implementation_class_uid"),
    (".aio", "AE().implementation_class_uid"),
    (".implementation", "IMPLEMENTATION_CLASS_UID"),
    (".presentation", "build_context('1.2').abstract_syntax"),
    (".presentation", "build_role('1.2', True).sop_class_uid"),
    (".sop_class", "CTImageStorage"),
    (".sop_class", "StorageCommitmentPushModelInstance"),
    (".sop_class", "Service.STORAGE.sop_classes[0]"),
    (".sop_class", "uid_to_sop_class('1.2')"),
]

IN_FORKS = """
import os, sys, pydicom.uid, asyncio, logging, socket, ssl  # once for all, which saves their time
for program in sys.argv[1:]:
    if not (pid := os.fork()):
        exec(program, {})
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_programs_see_uids_of_pydicom() -> None:
    """Each value is the only thing that a process of its own imports from dicomwire."""
    programs = []
    for module, value in VALUES:
        name = value.partition("(")[0].partition("[")[0].partition(".")[0]
        programs.append(f"from dicomwire{module} import {name}; value = {value}")
        programs[-1] += "; from pydicom.uid import UID; print(isinstance(value, UID))"
    seen = _run(IN_FORKS, *programs).splitlines()
    assert dict(zip(VALUES, seen, strict=True)) == dict.fromkeys(VALUES, "True")


SERVE = """
import dicomwire
from dicomwire{module} import AE

def handle(event):
    request, context = event.request, event.context
    print(request.AffectedSOPClassUID.name, context.transfer_syntax.name)
    return 0x0000

def sent(event):
    print("sent", event.message.AffectedSOPClassUID.name)

ae = AE()
ae.add_supported_context("1.2.840.10008.1.1")
ae.add_requested_context("1.2.840.10008.1.1")
server = ae.start_server(
    ("127.0.0.1", 0), block=False, evt_handlers=[(dicomwire.evt.EVT_C_ECHO, handle)]
)
with ae.associate("127.0.0.1", server.server_address[1]) as association:
    print(association.accepted_contexts[0].abstract_syntax.name)
    association.bind(dicomwire.evt.EVT_DIMSE_SENT, sent)
    print(association.send_c_echo().Status)
ae.shutdown()
"""


@pytest.mark.parametrize("module", ["", ".ae"])
def test_handlers_see_uids_of_pydicom(module: str) -> None:
    name, syntax = "Verification SOP Class", "Implicit VR Little Endian"
    printed = _run(SERVE.format(module=module)).splitlines()
    assert printed == [name, f"sent {name}", f"{name} {syntax}", "0"]


def _run(program: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
