"""Checks of AE titles and UIDs, bytes as text, and functions that nothing needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context as copy_context
from functools import partial
from typing import Any

from pydicom.uid import UID

from dicomwire import utils as _utils
from dicomwire.utils import decode_bytes as decode_bytes, pretty_bytes as pretty_bytes
from pynetdicom import _config

HAVE_CTYPES = True


def set_ae(
    value: str | None, name: str, allow_empty: bool = True, allow_none: bool = True
) -> str | None:
    """Return `value` if it is an AE title; see `dicomwire.utils.set_ae`."""
    value = _utils.set_ae(value, name, allow_empty, allow_none)
    if value:
        _config.check("AE", value, name)
    return value


def set_uid(
    value: str | bytes | UID | None,
    name: str,
    allow_empty: bool = True,
    allow_none: bool = True,
    validate: bool = True,
) -> UID | None:
    """Return `value` as a UID; see `dicomwire.utils.set_uid`."""
    uid = _utils.set_uid(value, name, allow_empty, allow_none, validate)
    if uid and validate:
        _config.check("UI", uid, name)
    return uid


def validate_uid(uid: str) -> bool:
    """Return whether `uid` is one, as strictly as `_config.ENFORCE_UID_CONFORMANCE` says."""
    return _utils.validate_uid(uid) and _config.validate_ui(uid)[0]


def make_target(target_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a thread runs; see `_config.PASS_CONTEXTVARS`."""
    return partial(copy_context().run, target_fn) if _config.PASS_CONTEXTVARS else target_fn


@contextmanager
def set_timer_resolution(resolution: float | None) -> Iterator[None]:
    """Do nothing: nothing waits by a timer."""
    yield
