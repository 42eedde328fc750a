"""Statuses: dicomwire's, the tables as plain dicts, each made when it is first asked for."""

from __future__ import annotations

from typing import Any, TypeAlias

from dicomwire import status as _status
from dicomwire.status import (
    STATUS_CANCEL as STATUS_CANCEL,
    STATUS_FAILURE as STATUS_FAILURE,
    STATUS_PENDING as STATUS_PENDING,
    STATUS_SUCCESS as STATUS_SUCCESS,
    STATUS_UNKNOWN as STATUS_UNKNOWN,
    STATUS_WARNING as STATUS_WARNING,
    Status as Status,
    code_to_category as code_to_category,
    code_to_status as code_to_status,
)

StatusDictType: TypeAlias = dict[int, tuple[str, str]]


def __getattr__(name: str) -> Any:
    table = getattr(_status, name, None)
    if not isinstance(table, _status.StatusTable):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    as_dict = globals()[name] = dict(table)
    return as_dict


def __dir__() -> list[str]:
    tables = (name for name, value in vars(_status).items() if name.endswith("STATUS"))
    return sorted({*globals(), *tables})
