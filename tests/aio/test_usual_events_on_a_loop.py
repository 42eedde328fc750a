"""Usual messages, which have templates, are told of as all others are, with the same results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from clock_loop import FakeTransport, on_a_clock, the_loop
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

from dicomwire import AssociationFailure, aio, build_context, evt
from dicomwire.protocol.command import Command
from raw_peer import request_pdu


def serve(course: Incoming, first: frozenset[Any], later: frozenset[Any]) -> Outcome:
    """Play a course in which the peer sends the requests."""
    program = Program(course, first, later)

    async def answer(event: evt.Event) -> Any:
        return program.answer(event)

    async def find(event: evt.Event) -> AsyncIterator[Any]:
        for each in program.find(event):
            yield each

    @on_a_clock
    async def play() -> None:
        loop, ae = the_loop(), aio.AE()
        for each in CONTEXTS:
            ae.add_supported_context(each.abstract_syntax, each.transfer_syntax)
        handlers = [*program.notices, (evt.EVT_C_FIND, find)]
        handlers += [(event, answer) for event in program.asked]
        async with ae.start_server(
            ("127.0.0.1", 0), evt_handlers=handlers, receive_to=program.receive_to
        ) as server:
            transport = FakeTransport(loop)
            server.add_connection(transport, ("192.0.2.3", 40_000))
            pieces = [request_pdu(*CONTEXTS).encode(), *course.pieces]
            loop.later.extend(partial(transport.arrive, piece) for piece in pieces)
            loop.later.append(transport.end)
            await asyncio.sleep(LONG)
            outcomes.append(program.outcome(transport.outgoing))

    outcomes: list[Outcome] = []
    play()
    return outcomes[0]


def request(course: Outgoing, first: frozenset[Any], later: frozenset[Any]) -> Outcome:
    """Play a course in which the program sends the requests."""
    log, results = Log(), []

    @on_a_clock
    async def play() -> None:
        loop = the_loop()
        transport = FakeTransport(loop)
        loop.next_transport = lambda: transport
        Answering(transport, loop.later, course)
        contexts = [build_context(each.abstract_syntax, each.transfer_syntax) for each in CONTEXTS]
        association = await aio.AE().associate(
            *("192.0.2.1", 104, contexts),
            evt_handlers=[(each, log) for each in first],
            window=course.window,
        )
        for number, call in enumerate(course.calls):
            if number == course.more_at:
                log.note(MORE)
                for each in later:
                    association.bind(each, log)
            try:
                async for each in made(association, call):
                    results.append(result(each))
            except (AssociationFailure, RuntimeError) as failure:
                results.append((type(failure), str(failure)))
        with suppress(AssociationFailure):
            await association.release()
        await asyncio.sleep(LONG)
        outcomes.append(
            Outcome(log.entries, bytes(transport.outgoing), results, end_of(association))
        )

    outcomes: list[Outcome] = []
    play()
    return outcomes[0]


async def made(association: aio.Association, call: Call) -> AsyncIterator[Any]:
    """Make a call; yield its results."""
    if call.command is Command.C_ECHO_RQ:
        yield await association.send_c_echo(call.message_id)
    elif call.command is Command.C_FIND_RQ:
        async for each in association.send_c_find(QUERY, FIND, call.message_id, call.priority):
            yield each
    elif call.is_run:
        async for each in association.send_c_stores(call.objects, call.priority):
            yield each
    else:
        for item in call.objects:
            yield await association.send_c_store(
                item, call.message_id, call.priority, *call.originator
            )


@given(incoming(), bound_events, bound_events)
def test_incoming_requests(course: Incoming, first: Any, later: Any) -> None:
    check(serve, course, first, later)


@given(outgoing, bound_events, bound_events)
def test_outgoing_requests(course: Outgoing, first: Any, later: Any) -> None:
    check(request, course, first, later)
