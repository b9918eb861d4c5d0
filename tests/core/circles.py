"""Whether a call would make its caller's session wait for itself: said once more, the plain way.

Counted from what clients have asked for, not from what the rule book keeps.
"""

from __future__ import annotations

from tests.core.world import World
from warmd.protocol.messages import ClientId


def closes_a_circle(world: World, caller: ClientId, target: str) -> bool:
    home = world.inside[caller]
    view = world.broker.view(home)
    if view is None or view.running_call is None:
        return False
    reached = {target}
    while True:
        further = {there for here, there in waits(world) if here in reached}
        if further <= reached:
            return home in reached
        reached |= further


def waits(world: World) -> set[tuple[str, str]]:
    """Each session that has a call under way, with the session that the call is in."""
    found = set()
    for heard in world.history:
        call = world.broker.call_view(heard.call.id.hex())
        if heard.client in world.inside and heard.open and not heard.call.detach and call is not None:
            # Of a call to the pool it is the worker that runs it; while it waits, none.
            given = world.workers.get(heard.worker) if heard.worker is not None else None
            where = call.session or heard.session or (given.spawn.session if given is not None else None)
            if where is not None:
                found.add((world.inside[heard.client], where))
    return found
