"""The options of the process that programs assign, and what becomes of them.

This is the one place where they turn into settings of dicomwire, which has no such options: they
count for the associations and servers that begin after they were assigned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from pydicom.config import IGNORE
from pydicom.uid import UID

from dicomwire import utils
from dicomwire.presentation import PresentationContext
from dicomwire.settings import Settings

LOG_HANDLER_LEVEL: str = "standard"
"""Anything but "standard" binds no handlers that log PDUs and messages at DEBUG level."""

LOG_REQUEST_IDENTIFIERS: bool = True
"""False logs no Identifiers, neither of requests nor of responses; they are logged at DEBUG."""

LOG_RESPONSE_IDENTIFIERS: bool = True
"""False does the same."""

ENFORCE_UID_CONFORMANCE: bool = False
"""Refuse UIDs that do not conform to PS3.5, where UIDs are checked at all (see VALIDATORS)."""

UNRESTRICTED_STORAGE_SERVICE: bool = False
"""Accept the storage of anything, whether its SOP class is known or not."""

STORE_RECV_CHUNKED_DATASET: bool = False
"""Receive every C-STORE dataset into a file, even a small one. There is an `event.dataset_path`
without this, too."""

CODECS: tuple[str, ...] = ("ascii",)
"""What text in association requests is decoded by: the first of them that can."""

PASS_CONTEXTVARS: bool = False
"""Call handlers in a copy of the `contextvars` context in which `AE.associate`, `start_server` or
`make_server` was called."""

STORE_SEND_CHUNKED_DATASET: bool = False
"""Not read: a file is always sent from disk as it is, where its transfer syntax was accepted."""

USE_SHORT_DIMSE_AET: bool = True
"""Not read: AE titles in DIMSE messages are padded to an even length."""

WINDOWS_TIMER_RESOLUTION: float | None = 1
"""Not read: nothing waits by a timer."""


def validate_ae(value: str) -> tuple[bool, str]:
    """Return whether `value` is an AE title, and why not."""
    try:
        utils.set_ae(value, "value", allow_none=False)
    except (TypeError, ValueError) as error:
        return False, str(error)
    return True, ""


def validate_ui(value: str) -> tuple[bool, str]:
    """Return whether `value` is a UID, as `ENFORCE_UID_CONFORMANCE` has it, and why not."""
    if len(value) > 64:
        return False, "must not exceed 64 characters"
    if ENFORCE_UID_CONFORMANCE and not UID(value, IGNORE).is_valid:
        return False, "does not conform to PS3.5 Section 9.1"
    return True, ""


VALIDATORS: dict[str, Callable[[str], tuple[bool, str]]] = {"AE": validate_ae, "UI": validate_ui}
"""What else AE titles and UIDs must satisfy: functions that return (is valid, reason).

They are asked about AE titles and presentation contexts where associations and servers begin, and
by `build_context`, `build_role`, `set_ae` and `set_uid`. They can refuse more than dicomwire does,
not less.
"""


def settings(base: Settings) -> Settings:
    """Return `base` as the options have it."""
    return replace(
        base,
        log_pdus=base.log_pdus and LOG_HANDLER_LEVEL == "standard",
        unrestricted_storage=base.unrestricted_storage or UNRESTRICTED_STORAGE_SERVICE,
        codecs=CODECS,
        spool_threshold=0 if STORE_RECV_CHUNKED_DATASET else base.spool_threshold,
    )


def logs_identifiers() -> bool:
    """Return whether Identifiers are to be logged."""
    return LOG_REQUEST_IDENTIFIERS and LOG_RESPONSE_IDENTIFIERS


def check(vr: str, value: str, name: str) -> None:
    """Raise ValueError for a value that the validator of `vr` does not take."""
    is_valid, reason = VALIDATORS[vr](value)
    if not is_valid:
        raise ValueError(f"Invalid '{name}' value {value!r} - {reason}")


def check_contexts(contexts: Iterable[PresentationContext] | None) -> None:
    """Raise ValueError for presentation contexts with a UID that the validator does not take."""
    for context in contexts or ():
        if not isinstance(context, PresentationContext):
            continue  # dicomwire refuses it
        check("UI", context.abstract_syntax or "", "abstract_syntax")
        for syntax in context.transfer_syntax:
            check("UI", syntax, "transfer_syntax")
