"""The response to a STOW-RS request: status and dataset (PS3.18 Section 10.5.3, Annex I)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicomwire.node.statuses import NOT_AUTHORIZED, OUT_OF_RESOURCES, SUCCESS
from dicomwire.node.web.incoming import Result

RETRIEVE_URL = "00081190"
WARNING_REASON = "00081196"
FAILURE_REASON = "00081197"
FAILED_SOPS = "00081198"
REFERENCED_SOPS = "00081199"
OTHER_FAILURES = "0008119A"
SOP_CLASS = "00081150"
SOP_INSTANCE = "00081155"


def status_of(results: Sequence[Result]) -> int:
    """Return the HTTP status for the results of a request (PS3.18 Table 10.5.3-1).

    If nothing is stored, 409 means that the objects are at fault. If none of them is, but the
    archive (503), their size (413) or the rights of the user (403), that is said instead.
    """
    if any(result.is_stored for result in results):
        return 200 if all(result.status == SUCCESS for result in results) else 202
    if all(result.is_too_large for result in results):
        return 413
    if all(result.status == OUT_OF_RESOURCES for result in results):
        return 503
    if all(result.status == NOT_AUTHORIZED for result in results):
        return 403
    return 409


def response_module(results: Sequence[Result], root: str) -> dict[str, Any]:
    """Return the Store Instances Response Module, in the DICOM JSON Model.

    Parameters
    ----------
    root : str
        The URL below which the studies are.
    """
    stored = [result for result in results if result.is_stored]
    failed = [result for result in results if not result.is_stored]
    known = [result for result in failed if result.sop_instance_uid]
    studies = {result.study_uid for result in stored}
    url = f"{root}/studies/{studies.pop()}" if len(studies) == 1 else ""
    module = {RETRIEVE_URL: _element("UR", url)}
    sequences = (
        (FAILED_SOPS, [_failure(result) for result in known]),
        (REFERENCED_SOPS, [_reference(result, root) for result in stored]),
        (OTHER_FAILURES, [_reason(result) for result in failed if not result.sop_instance_uid]),
    )
    for tag, items in sequences:
        if items:
            module[tag] = {"vr": "SQ", "Value": items}
    return module


def _reference(result: Result, root: str) -> dict[str, Any]:
    study = f"{root}/studies/{result.study_uid}"
    url = f"{study}/series/{result.series_uid}/instances/{result.sop_instance_uid}"
    item = {**_sop(result), RETRIEVE_URL: _element("UR", url)}
    if result.status != SUCCESS:
        item[WARNING_REASON] = _element("US", result.status)
    return item


def _failure(result: Result) -> dict[str, Any]:
    return {**_sop(result), **_reason(result)}


def _reason(result: Result) -> dict[str, Any]:
    return {FAILURE_REASON: _element("US", result.status)}


def _sop(result: Result) -> dict[str, Any]:
    return {
        SOP_CLASS: _element("UI", result.sop_class_uid),
        SOP_INSTANCE: _element("UI", result.sop_instance_uid),
    }


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}
