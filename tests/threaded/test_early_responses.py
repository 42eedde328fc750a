"""A handler of C-STORE sends its response before it returns, if that takes no waiting."""

from __future__ import annotations

import logging

import pytest
from test_responses_together import answered, connected, echo, store

from dicomwire import evt


class Handler:
    """Responds early, and notes whether that succeeded and what the peer then has."""

    def __init__(self, result: object = 0x0000) -> None:
        self.result = result
        self.sock = None
        self.succeeded: list[bool] = []
        self.answered: list[list[int | None]] = []

    def __call__(self, event: evt.Event) -> object:
        self.succeeded.append(event.assoc.respond_early())
        if self.sock.room is None:
            self.answered.append(answered(self.sock))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def handler():
    return Handler()


def test_the_peer_has_the_response_while_the_handler_runs(world, handler):
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    for number in (1, 2):
        sock.arrive(store(number))
        world.run()
    assert handler.succeeded == [True, True]
    assert handler.answered == [[1], [1, 2]]
    assert answered(sock) == [1, 2]


@pytest.mark.parametrize("result", [0xA700, None, ZeroDivisionError()])
def test_what_the_handler_then_does_is_not_sent(world, result):
    handler = Handler(result)
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    for request in (store(1), echo(2)):
        sock.arrive(request)
        world.run()
    assert answered(sock) == [1, 2]


def test_an_exception_of_the_handler_is_logged_nevertheless(world, caplog):
    handler = Handler(ZeroDivisionError())
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    sock.arrive(store(1))
    world.run()
    assert "the handler of evt.EVT_C_STORE failed" in caplog.text


def test_where_more_requests_wait_the_library_responds(world, handler):
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    sock.arrive(echo(1) + store(2) + echo(3))
    world.run()
    assert handler.succeeded == [False]
    assert handler.answered == [[1]]
    assert answered(sock) == [1, 2, 3]


def test_while_the_peer_reads_nothing_the_handler_does_not_wait(world, handler):
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    sock.room = 0

    def read() -> None:
        sock.room = None

    world.later.append(read)
    sock.arrive(store(1))
    world.run()
    assert handler.succeeded == [False]
    assert answered(sock) == [1]


def test_half_a_response_ends_the_association(world, handler):
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    sock.room = 10
    sock.arrive(store(1))
    world.run()
    assert handler.succeeded == [True]
    assert sock.is_shut
    assert sock.closed == 1


def test_where_messages_are_looked_at_the_library_responds(world, handler, caplog):
    seen = []
    watch = (evt.EVT_DIMSE_SENT, lambda event: seen.append(event.message.Status))
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler), watch)
    sock.arrive(store(1))
    world.run()
    assert handler.succeeded == [False]
    assert handler.answered == [[]]
    assert answered(sock) == [1]
    assert seen == [0x0000]


def test_where_the_log_has_each_message_the_library_responds(world, handler, caplog):
    caplog.set_level(logging.INFO, "dicomwire")
    handler.sock = sock = connected(world, (evt.EVT_C_STORE, handler))
    sock.arrive(store(1))
    world.run()
    assert handler.succeeded == [False]
    assert answered(sock) == [1]


def test_without_a_request_there_is_no_response(world):
    associations = []
    sock = connected(world, (evt.EVT_C_ECHO, lambda event: associations.append(event.assoc) or 0))
    sock.arrive(echo(1))
    world.run()
    assert associations[0].respond_early() is False
    assert answered(sock) == [1]
