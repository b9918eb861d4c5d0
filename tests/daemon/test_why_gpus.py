"""`why` of sessions with GPU memory, and of the calls that wait for them."""

from __future__ import annotations

from typing import Any

from tests.daemon.told import Told
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef
from warmd.protocol.work import Asks

GIB = 2**30
GEMMA = AppRef("gemma")


def world(**limits: Any) -> Told:
    """One GPU of 16 GiB, and apps that ask for 10 of them."""
    made = Told(Limits(session_timeout_seconds=1000.0, **limits))
    made.asks = Asks(gpu=GpuAsk(bytes=10 * GIB))
    made.insert_cards(card=16 * GIB)
    return made


def test_a_start_that_waits_for_a_busy_session() -> None:
    w = world()
    w.call(w.session(), "count")
    w.wait(5)
    start = w.call("new", app=GEMMA)
    w.wait(12)
    (waiting,) = (view.id for view in w.broker.views() if view.state == "placing")
    room = (
        "10.0 GiB of GPU memory, for 12 s: GPU 0 (a card, 16.0 GiB) has 6.0 GiB free beside session ID of "
        "app counter with 10.0 GiB (busy); 'count' of session ID has run for 17 s; it is refused in 4 min "
        "(gpu_wait)"
    )
    assert w.line(waiting) == f"session ID of app 'gemma' waits for {room}; 1 call waits for it"
    waits = "call ID to 'run' has waited for 12 s for the start of session ID"
    assert w.line(start) == f"{waits}, and that for {room}"
    gpu = w.facts(waiting)["gpu"]
    assert gpu["holders"][0]["app"] == "counter"
    assert (gpu["waits_for"], gpu["refused_in"]) == (12.0, 288.0)
    assert not w.looked, "there is no process whose stack could be taken"


def test_a_start_before_the_gpus_were_looked_at() -> None:
    w = Told(holds=frozenset({fx.Look}))
    w.asks = Asks(gpu=GpuAsk(whole=1))
    start = w.call("new")
    w.wait(1)
    assert w.line(start.session).startswith(
        "session ID of app 'counter' waits for 1 GPU, for 1 s: its GPU is not to be seen; it is refused in"
    )


def test_a_session_from_the_gpu_to_host_memory_and_back() -> None:
    w = world()
    session = w.session()
    w.wait(1)
    w.holds = frozenset({gpus.Park, gpus.Unpark})
    other = w.call("new", app=GEMMA)
    w.wait(2)
    assert w.line(session) == (
        "session ID of app 'counter' is being parked, for 2 s (it is given up in 48 s): its 10.0 GiB of GPU "
        "memory goes to host memory"
    )
    w.oblige()
    w.wait(60)
    assert w.line(session) == (
        "session ID of app 'counter' is parked for 60 s: its 10.0 GiB of GPU memory is in host memory, and "
        "comes back with its next call; expires in 15 min unless called"
    )
    w.holds = frozenset({gpus.Unpark})
    w.end(other.session)
    call = w.call(session)
    w.wait(3)
    assert w.state(session) == "unparking"
    assert w.line(session) == (
        "session ID of app 'counter' is being brought back, for 2 s (it is given up in 48 s): its 10.0 GiB "
        "of GPU memory; 1 call waits for it"
    )
    assert w.line(call) == (
        "call ID to 'run' has waited for 3 s in session ID, which is being brought back, for 2 s"
    )


def test_a_parked_session_that_has_no_room_to_come_back() -> None:
    w = world()
    session = w.session()
    w.wait(1)
    other = w.session(app=GEMMA)
    w.call(other, "count")
    w.wait(4)
    call = w.call(session)
    w.wait(5)
    room = (
        "10.0 GiB of GPU memory, for 5 s: GPU 0 (a card, 16.0 GiB) has 6.0 GiB free beside session ID of app "
        "gemma with 10.0 GiB (busy); 'count' of session ID has run for 9 s; it is refused in 4 min (gpu_wait)"
    )
    waits = f"is parked and waits to come back: {room}"
    assert w.line(session) == f"session ID of app 'counter' {waits}; 1 call waits for it"
    assert w.line(call) == f"call ID to 'run' has waited for 5 s in session ID, which {waits}"
