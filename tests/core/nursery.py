"""Templates in the simulated world: what stands in for them, and objects to broken promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import FORK_SECONDS, UNFORKABLE_SECONDS
from warmd.protocol import work
from warmd.protocol.work import WorkerId

MEMORY_BYTES = 1000
LATE_SECONDS = 0.2


@dataclass(eq=False)
class FakeTemplate:
    """One process that imports an app, from the order to start it until it is forgotten or given away."""

    order: fx.Prepare
    used: float
    """When it was ordered, came up, or was last forked."""
    spawned: bool = False
    failed: bool = False
    told: bool = False
    """It has said how its import went."""
    up: bool = False
    memory: int = 0
    linked: bool = True
    exited: bool = False
    tree_gone: bool = False
    forgotten: bool = False
    outdated: bool = False
    """It has said that what it imported is there no more."""
    given: bool = False
    """It has become a worker."""
    kills: int = 0

    @property
    def worker(self) -> WorkerId:
        return self.order.worker

    @property
    def key(self) -> object:
        return self.order.spec.name, tuple(sorted(self.order.env.items()))

    @property
    def alive(self) -> bool:
        return not (self.failed or self.exited or self.given)

    @property
    def of_use(self) -> bool:
        """Nobody has ended it yet, as far as the daemon knows."""
        return self.alive and self.linked and not self.kills

    @property
    def importing(self) -> bool:
        return self.of_use and not self.told


class Nursery:
    """The part of the stage, and of the world, that has to do with templates."""

    def open_nursery(self) -> None:
        self.templates: dict[WorkerId, FakeTemplate] = {}
        self.unforkable: dict[object, float] = {}
        """Since when the daemon knows of an app that it cannot be forked."""

    # What is ordered

    def prepares(self: Any, order: fx.Prepare) -> None:
        assert order.worker not in self.workers and order.worker not in self.templates, "an id is used twice"
        new = FakeTemplate(order, self.now)
        alike = [one for one in self.templates.values() if one.key == new.key and one.spawned]
        assert not any(one.importing for one in alike), "two imports of one app at one time"
        known = self.unforkable.get(new.key)
        assert known is None or self.now >= known + UNFORKABLE_SECONDS, "it is known that forks are unsound"
        self.templates[order.worker] = new

    def forks(self: Any, order: fx.Fork) -> None:
        template = self.templates[order.template]
        assert template.of_use and template.told, "forked from what is no template, or not yet"
        assert order.whole != template.up, "given away, or forked, against its own word"
        assert not template.outdated, "forked from what has changed"
        assert order.spec == template.order.spec
        setup, pickled = order.setup, template.order.pickled
        env, gpus = template.order.env, order.gpus
        self._start(fx.Spawn(order.worker, order.session, order.spec, env, setup, pickled, gpus))
        fake = self.workers[order.worker]
        fake.template = template
        template.used = self.now
        if order.whole:
            template.given = True
            fake.template = None

    def acts_on_template(self: Any, effect: fx.Effect) -> None:
        template = self.templates[effect.worker]
        assert not template.forgotten and not template.given, f"an order about what is gone: {effect}"
        if isinstance(effect, fx.Kill):
            assert template.spawned and not template.kills, "killed twice, or before there is a process"
            under_way = [fake for fake in self._forks_of(template) if not fake.spawned and fake.alive]
            late = self.now >= template.used + FORK_SECONDS
            excuses = late or template.exited or not template.linked or self.faulty or self.was_faulty
            assert not under_way or excuses, "killed while its forks were under way"
            template.kills += 1
        else:
            assert isinstance(effect, fx.Forget)
            over = template.failed or template.tree_gone
            assert over and effect.session == template.order.log, "forgotten while something of it lives"
            template.forgotten = True

    def _forks_of(self: Any, template: FakeTemplate) -> list[Any]:
        return [fake for fake in self.workers.values() if fake.template is template]

    def _its_forks_never_come(self, template: FakeTemplate) -> None:
        """Those that have not come to the door."""
        for fake in self._forks_of(template):
            fake.failed = fake.failed or not fake.spawned

    def shares_log(self, order: fx.ShareLog) -> None:
        assert any(one.order.log == order.log for one in self.templates.values()), "a log of nobody"

    def template_answers(self, order: fx.Effect) -> list[ev.Event]:
        """What an obliging world answers to an order about a template."""
        template = self.templates[order.worker]
        if isinstance(order, fx.Prepare):
            template.spawned = template.told = template.up = True
            said = work.Prepared(0.5, template.memory, "")
            return [ev.WorkerSpawned(order.worker, 100 + order.worker), ev.WorkerSaid(order.worker, said)]
        if not isinstance(order, fx.Kill):
            return []
        exits = [] if template.exited else [ev.WorkerExited(order.worker, None, "SIGKILL", "")]
        template.exited = template.tree_gone = True
        self._its_forks_never_come(template)
        return [*exits, ev.TreeGone(order.worker)]

    # What must always hold

    def check_templates(self: Any) -> None:
        of_use = [one for one in self.templates.values() if one.of_use]
        for one in of_use:
            if one.spawned and not one.told:
                awaited = any(view.worker == one.worker for view in self.broker.views())
                assert awaited, "an import that nobody waits for goes on"
            if one.up and one.spawned:
                latest = one.used + self.limits.template_seconds + LATE_SECONDS
                busy = any(not fake.spawned and fake.alive for fake in self._forks_of(one))
                assert busy or self.now <= latest, "a template that nobody uses lives on"
        through = [one for one in of_use if all(f.spawned or not f.alive for f in self._forks_of(one))]
        settled = [one for one in through if one.up and one.spawned]
        held = sum(one.memory for one in settled)
        assert held <= self.limits.template_bytes, "templates have more memory than they may"
        assert len(settled) <= self.limits.max_templates, "more templates than there may be"
        assert self.limits.max_templates or not self.templates, "templates, though they are off"

    # What happens

    def template(self, number: int = 0) -> FakeTemplate:
        """By its id; 0: the latest."""
        return self.templates[WorkerId(number or max(self.templates))]

    def template_spawned(self: Any, number: int = 0) -> None:
        template = self.template(number)
        template.spawned = True
        self.tell(ev.WorkerSpawned(template.worker, 100 + template.worker))

    def template_spawn_fails(self: Any, number: int = 0) -> None:
        template = self.template(number)
        template.failed = True
        self.tell(ev.SpawnFailed(template.worker, "no memory"))

    def imported(self: Any, number: int = 0, unforkable: str = "", memory: int = MEMORY_BYTES) -> None:
        template = self.template(number)
        template.told, template.up, template.memory = True, not unforkable, memory
        template.used = self.now
        if unforkable and template.of_use and template.spawned and self.sabotage is None:
            self.unforkable[template.key] = self.now
        said = work.Prepared(0.5, memory, unforkable)
        self.tell(ev.WorkerSaid(template.worker, said))

    def import_fails(self: Any, number: int = 0) -> None:
        template = self.template(number)
        template.told = True
        template.linked = False
        said = work.StartFailed("imports", "ImportError", "no such module", "Traceback ...")
        self.tell(ev.WorkerSaid(template.worker, said))

    def template_loses_link(self: Any, number: int = 0) -> None:
        template = self.template(number)
        template.linked = False
        self.tell(ev.LinkLost(template.worker, "closed its link"))

    def finds_changes(self: Any, worker: int = 0) -> None:
        """A template that is to make this worker sees that the app's files are others now."""
        fake = self.worker(worker)
        fake.failed = fake.template.outdated = True
        self.tell(ev.WorkerSaid(fake.template.worker, work.Outdated(fake.spawn.worker)))

    def template_exits(self: Any, number: int = 0, signal: str = "SIGKILL") -> None:
        template = self.template(number)
        template.exited = True
        self._its_forks_never_come(template)
        self.tell(ev.WorkerExited(template.worker, None, signal, "last words"))

    def template_tree_ends(self: Any, number: int = 0, stuck: tuple[int, ...] = ()) -> None:
        template = self.template(number)
        template.tree_gone = True
        self._its_forks_never_come(template)
        self.tell(ev.TreeGone(template.worker, stuck))

    def oblige_templates(self: Any) -> None:
        """Whatever they owe is done at once."""
        for number, template in list(self.templates.items()):
            if template.alive and not template.spawned:
                self.template_spawned(number)
            if template.importing:
                self.imported(number)
            if template.spawned and template.alive and (template.kills or not template.linked):
                self.template_exits(number)
            if template.kills and not template.tree_gone:
                self.template_tree_ends(number)
