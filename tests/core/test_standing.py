"""How sessions and calls stand: what `why` reads."""

from __future__ import annotations

from tests.core.stage import EVERYTHING
from tests.core.world import World, client
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import CallId, SessionId
from warmd.protocol.work import Asks


def test_a_busy_session_says_what_runs_and_how_many_wait():
    world = World()
    session = world.session()
    first, second = world.call(session), world.call(session)
    world.wait(3.0)
    standing = world.broker.standing(session)
    assert standing is not None
    assert (standing.running_function, standing.waiting, standing.died) == ("run", 1, False)
    call = world.broker.call_standing(second.call.id)
    assert call is not None and call.session == standing
    assert (call.function, call.app, world.now - call.arrived) == ("run", "counter", 3.0)
    assert world.broker.open_calls() == [first.call.id, second.call.id]


def test_a_start_counts_from_its_look_up_and_then_from_its_process():
    world = World(holds=EVERYTHING)
    begun = world.now
    heard = world.call("new")
    session = world.broker.views()[0].id
    assert world.broker.standing(session).start_since == begun
    world.wait(2.0)
    world.found()
    standing = world.broker.standing(session)
    assert standing.start_since == begun + 2.0
    assert standing.start_limit_seconds == world.limits.start_timeout_seconds
    assert heard.open


def test_a_call_that_waits_for_any_worker_has_no_session_and_knows_its_app():
    world = World(holds=EVERYTHING)
    heard = world.call(None)
    call = world.broker.call_standing(heard.call.id)
    assert (call.session, call.app) == (None, "counter")


def test_what_is_not_there_does_not_stand():
    world = World()
    assert world.broker.standing(SessionId("sess_none")) is None
    assert world.broker.call_standing(CallId(bytes(16))) is None
    assert world.broker.refusal(client("ann")) is None
    assert world.broker.missing_call("00" * 16).code == "CALL_GONE"
    assert world.broker.missing_call("nonsense").code == "CALL_GONE"


def test_one_who_died_but_is_not_gone_stands_as_dead():
    world = World(holds=EVERYTHING)
    world.call("new")
    session = world.broker.views()[0].id
    world.found()
    world.spawned()
    world.exits(signal="SIGSEGV")
    assert world.broker.standing(session).died


def test_one_who_waits_for_gpu_memory_says_for_what_and_who_has_it():
    world = World()
    world.asks = Asks(gpu=GpuAsk(share=0.6))
    world.insert_cards(card=100)
    first = world.session()
    assert world.broker.standing(first).room.wanted == "0.0 GiB"
    world.call(first)
    since = world.now
    waiting = world.call("new").session
    world.wait(3.0)
    room = world.broker.standing(waiting).room
    assert (room.wanted, room.waits_since, room.holders) == ("60% of a GPU", since, (first,))
    assert room.refused_at == since + world.limits.gpu_wait_seconds
    assert "GPU 0 (a card" in room.in_the_way
    assert (room.moves_since, room.moves_until, room.parked_since) == (None, None, None)


def test_one_without_gpu_memory_has_no_standing_there():
    world = World()
    assert world.broker.standing(world.session()).room is None
