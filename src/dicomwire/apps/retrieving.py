"""The options and the counts of sub-operations that getscu and movescu share."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydicom.dataset import Dataset

from dicomwire import UID
from dicomwire.apps.arguments import EXIT_CODES, new_parser
from dicomwire.apps.console import DONE, FAILED, INTERRUPTED, Console
from dicomwire.apps.identifier import PATHS, add_identifier
from dicomwire.apps.querying import (
    Operation,
    Responses,
    add_models,
    add_negotiation,
    add_outcome,
    negotiation,
)
from dicomwire.apps.receiving import NAMES, Receiver, add_output
from dicomwire.apps.requesting import exit_code
from dicomwire.logs import counted
from dicomwire.pdu_primitives import SOPClassExtendedNegotiation

_EPILOG = f"""\
{PATHS}

{NAMES}

{EXIT_CODES}"""


def retrieval_parser(
    app: str, description: str, models: Mapping[str, UID], examples: Sequence[str]
) -> ArgumentParser:
    """Return a parser with the arguments of both applications, except those of `add_peer`."""
    parser = new_parser(app, description, _EPILOG, examples)
    add_identifier(parser)
    add_models(parser, models)
    flags = {
        "--relational-retrieval": "relational retrieval",
        "--enhanced-conversion": "enhanced multi-frame image conversion",
    }
    add_negotiation(parser, flags)
    add_output(parser)
    parser.add_argument_group("summary").add_argument(
        "--json", action="store_true", help="write a summary to standard output, a JSON object"
    )
    add_outcome(parser)
    return parser


def retrieval_negotiation(options: Namespace) -> list[SOPClassExtendedNegotiation]:
    """Return the extended negotiation for the model."""
    return negotiation(options.model, [options.relational_retrieval, options.enhanced_conversion])


@dataclass(slots=True)
class SubOperations:
    """The results of the sub-operations that the peer reported (PS3.7 Section 9.1.3.1)."""

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_instances: list[str] = field(default_factory=list)

    def take(self, status: Dataset) -> None:
        """Take the counts of a response; a count that it does not have stays."""
        for name in ("remaining", "completed", "failed", "warning"):
            value = status.get(f"NumberOf{name.capitalize()}Suboperations")
            if value is not None:
                setattr(self, name, value)

    def progress(self) -> str:
        """Return the progress as text."""
        done = self.completed + self.failed + self.warning
        return f"{done} of {counted(done + self.remaining, 'object')}, {self.failed} failed"

    def __str__(self) -> str:
        return (
            f"{counted(self.completed, 'object')} sent by the peer, "
            f"{self.warning} with a warning, {self.failed} failed, {self.remaining} left"
        )


def retrieve(
    options: Namespace,
    console: Console,
    logger: logging.Logger,
    operation: Operation,
    responses: Responses,
    receiver: Receiver | None,
) -> int:
    """Take all responses, show the result, and return the exit code.

    Parameters
    ----------
    receiver : Receiver or None
        The receiver of the objects; None if this process receives none.
    """
    reported = SubOperations()
    try:
        for status, _ in operation.pending(responses):
            reported.take(status)
            console.follow(reported.progress)
    except KeyboardInterrupt:
        operation.cancel()
        kept = "" if receiver is None else f"; {receiver}"
        logger.error("Interrupted: %s%s; the same command asks for all again", reported, kept)
        return INTERRUPTED
    if "Status" in operation.status:
        reported.remaining = 0  # unless the last response says otherwise
    reported.take(operation.status)
    reported.failed_instances = _failed_instances(operation.reply)
    received = "" if receiver is None else f"; {receiver}"
    console.conclude(logger, f"{reported}{received}")
    if options.json:
        print(json.dumps(_summary(operation, reported, receiver)))
    return exit_code(options, DONE if _is_complete(operation, reported, receiver) else FAILED)


def _is_complete(operation: Operation, reported: SubOperations, receiver: Receiver | None) -> bool:
    """Return whether the peer sent every object.

    The status Warning means failures, warnings or both, and a peer may leave out the counts that
    say which (PS3.4 Table C.4-2).
    """
    if not operation.succeeded or reported.failed or reported.failed_instances:
        return False
    if not operation.is_warned:
        return True
    return reported.warning > 0 and (receiver is None or receiver.count > 0)


def _failed_instances(reply: Dataset | None) -> list[str]:
    """Return the UIDs of the instances that were not sent, if the last response has them."""
    try:
        uids: Any = None if reply is None else reply.get("FailedSOPInstanceUIDList")
    except Exception:  # a peer may send any value
        return []
    if not uids:
        return []
    return [uids] if isinstance(uids, str) else [str(uid) for uid in uids]


def _summary(
    operation: Operation, reported: SubOperations, receiver: Receiver | None
) -> dict[str, Any]:
    summary = {"status": operation.status.get("Status"), **asdict(reported)}
    return summary if receiver is None else {**summary, "received": receiver.count}
