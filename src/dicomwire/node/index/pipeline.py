"""The statements of each batch on the connection that writes to PostgreSQL, by libpq.

A statement takes 10 us of the process's time; with a cursor of psycopg it is 50 or more, and with
SQLAlchemy several times as much.
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Mapping, Sequence
from typing import Any

# Neither has a file of its own, which would have to be closed.
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
_SUCCEEDED = (1, 2)
"""PGRES_COMMAND_OK and PGRES_TUPLES_OK of libpq."""


class Pipeline:
    """Sends prepared statements without waiting for the results of those before.

    So several take one round trip. The server executes them one after the other; when one has
    failed, it passes over the others that were sent before the next call of `results`. The
    connection can execute no other statements before that call.

    Parameters
    ----------
    pgconn
        A connection of libpq, as psycopg has it.
    statements : mapping
        The text of each statement, by its name.

    Raises
    ------
    psycopg.Error
        When they cannot be prepared.
    """

    def __init__(self, pgconn: Any, statements: Mapping[bytes, str]) -> None:
        self.pgconn = pgconn
        self._sent = 0
        """The statements whose results nobody has waited for."""
        self._selector = Selector()
        self._selector.register(pgconn.socket, selectors.EVENT_READ)
        for name, text in statements.items():
            self._enter()
            pgconn.send_prepare(name, text.encode())
            self._sent += 1
        self.results()

    def _enter(self) -> None:
        if not self._sent:
            self.pgconn.enter_pipeline_mode()

    def send(self, name: bytes, values: Sequence[bytes | None] = ()) -> None:
        """Add a statement to those that are sent together; psycopg.Error if that fails."""
        self._enter()
        self.pgconn.send_query_prepared(name, values)
        self._sent += 1

    def start(self) -> None:
        """Let the server execute what was added, and do not wait for it."""
        self.pgconn.flush()

    def results(self) -> list[Any]:
        """Wait for all statements since the last call; return their results, in order.

        Raises
        ------
        psycopg.Error
            Why the first of them that failed did.
        """
        from psycopg import OperationalError

        count, self._sent = self._sent, 0
        if not count:
            return []
        self.pgconn.pipeline_sync()
        self._flush()
        found: list[Any] = []
        while len(found) < count and (result := self._next()) is not None:
            found.append(result)
            self._next()  # None, after each result
        if len(found) == count:
            self._next()  # that of the synchronization
            self.pgconn.exit_pipeline_mode()
        found = [checked(result) for result in found]
        if len(found) < count:
            raise OperationalError("the connection was lost")
        return found

    def _flush(self) -> None:
        """Send all that was added; meanwhile, receive what the server sends, so that it goes on."""
        if not self.pgconn.flush():
            return
        self._selector.modify(self.pgconn.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while self.pgconn.flush():
            self._wait()
        self._selector.modify(self.pgconn.socket, selectors.EVENT_READ)

    def _next(self) -> Any:
        """Return the next result; None if there is none."""
        while self.pgconn.is_busy():
            self._wait()
        return self.pgconn.get_result()

    def _wait(self) -> None:
        """Wait for the server. (The functions of libpq would keep all other threads waiting.)"""
        self._selector.select()
        self.pgconn.consume_input()

    def give_up(self) -> None:
        """Wait for all statements, whatever their results are. It never raises."""
        from psycopg import Error

        with contextlib.suppress(Error):
            self.results()


def checked(result: Any) -> Any:
    """Return a result of libpq; raise the error that it has."""
    if result.status in _SUCCEEDED:
        return result
    from psycopg import OperationalError
    from psycopg.errors import error_from_result

    error = error_from_result(result)
    # The server gives a state to each error; without one, the connection was lost.
    raise error if error.diag.sqlstate else OperationalError(str(error))
