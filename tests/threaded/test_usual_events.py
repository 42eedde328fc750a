"""Usual messages, which pass as bytes, are told of as all others are, with the same results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from courses import (
    CONTEXTS,
    FIND,
    LONG,
    MORE,
    QUERY,
    Answering,
    Call,
    Incoming,
    Log,
    Outcome,
    Outgoing,
    Program,
    bound_events,
    check,
    end_of,
    incoming,
    outgoing,
    result,
)
from hypothesis import given
from simulation import FakeSocket, another_world

from dicomwire import AE, Association, build_context, evt
from dicomwire.protocol.command import Command
from raw_peer import request_pdu


def serve(course: Incoming, first: frozenset[Any], later: frozenset[Any]) -> Outcome:
    """Play a course in which the peer sends the requests."""
    program = Program(course, first, later)
    handlers = [*program.notices, (evt.EVT_C_FIND, program.find)]
    handlers += [(event, program.answer) for event in program.asked]
    with another_world() as world:
        ae = AE()
        for each in CONTEXTS:
            ae.add_supported_context(each.abstract_syntax, each.transfer_syntax)
        server = ae.start_server(
            ("192.0.2.1", 0), block=False, evt_handlers=handlers, receive_to=program.receive_to
        )
        sock = world.connect(server)
        sock.arrive(request_pdu(*CONTEXTS).encode())
        world.run()
        world.later.extend(partial(sock.arrive, piece) for piece in course.pieces)
        world.later.append(sock.end)
        while world.later:
            world.later.popleft()()
            world.run()
        world.pass_time(LONG)
        server.shutdown()
        return program.outcome(sock.outgoing)


def request(course: Outgoing, first: frozenset[Any], later: frozenset[Any]) -> Outcome:
    """Play a course in which the program sends the requests."""
    log, results = Log(), []
    with another_world() as world:
        sock = FakeSocket(world)
        world.next_socket = lambda: sock
        Answering(sock, world.later, course)
        contexts = [build_context(each.abstract_syntax, each.transfer_syntax) for each in CONTEXTS]
        association = AE().associate(
            *("peer", 104, contexts),
            evt_handlers=[(each, log) for each in first],
            window=course.window,
        )
        for number, call in enumerate(course.calls):
            if number == course.more_at:
                log.note(MORE)
                for each in later:
                    association.bind(each, log)
            with suppress(RuntimeError):  # the association is over
                results += [result(each) for each in made(association, call)]
            world.run()
        association.release()
        world.pass_time(LONG)
        return Outcome(log.entries, bytes(sock.outgoing), results, end_of(association))


def made(association: Association, call: Call) -> Iterator[Any]:
    """Make a call; yield its results."""
    if call.command is Command.C_ECHO_RQ:
        yield association.send_c_echo(call.message_id)
    elif call.command is Command.C_FIND_RQ:
        yield from association.send_c_find(QUERY, FIND, call.message_id, call.priority)
    elif call.is_run:
        yield from association.send_c_stores(call.objects, call.priority)
    else:
        for each in call.objects:
            yield association.send_c_store(each, call.message_id, call.priority, *call.originator)


@given(incoming(), bound_events, bound_events)
def test_incoming_requests(course: Incoming, first: Any, later: Any) -> None:
    check(serve, course, first, later)


@given(outgoing, bound_events, bound_events)
def test_outgoing_requests(course: Outgoing, first: Any, later: Any) -> None:
    check(request, course, first, later)
