"""Statuses: dicomwire's, the tables as plain dicts, each made when it is first asked for."""

from __future__ import annotations

from typing import Any, TypeAlias

from dicomwire import status as _status
from dicomwire.status import STATUS_CANCEL as STATUS_CANCEL
from dicomwire.status import STATUS_FAILURE as STATUS_FAILURE
from dicomwire.status import STATUS_PENDING as STATUS_PENDING
from dicomwire.status import STATUS_SUCCESS as STATUS_SUCCESS
from dicomwire.status import STATUS_UNKNOWN as STATUS_UNKNOWN
from dicomwire.status import STATUS_WARNING as STATUS_WARNING
from dicomwire.status import Status as Status
from dicomwire.status import code_to_category as code_to_category
from dicomwire.status import code_to_status as code_to_status

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
