"""Rules of the property tests: what templates may do, in their imports, forks and deaths."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.core.nursery import FakeTemplate
from tests.core.scene import PICK, SELDOM, Scene

HOW = st.sampled_from(["spawned", "up", "up", "up", "large", "unforkable", "raises", "fails"])


def importing(template: FakeTemplate) -> bool:
    return template.alive and not (template.spawned and template.told)


def lives(template: FakeTemplate) -> bool:
    return template.spawned and template.alive


def dying(template: FakeTemplate) -> bool:
    return bool((lives(template) and (template.kills or not template.linked)) or
                (template.kills and not template.tree_gone))  # fmt: skip


class ActsOfTemplates(Scene):
    def templates(self, wanted: Callable[[FakeTemplate], bool]) -> list[FakeTemplate]:
        return [template for template in self.world.templates.values() if wanted(template)]

    @precondition(lambda self: self.templates(importing))
    @rule(pick=PICK, how=HOW)
    def go_on_with_an_import(self, pick: int, how: str) -> None:
        found = self.templates(importing)
        template = found[pick % len(found)]
        number = template.worker
        if how == "fails" and not template.spawned and not template.told:
            self.world.template_spawn_fails(number)
        elif how == "raises" and template.importing:
            self.world.import_fails(number)
        elif how in ("up", "large") and template.importing:
            self.world.imported(number, memory=3000 if how == "large" else 1000)
        elif how == "unforkable" and template.importing:
            self.world.imported(number, "it started a thread")
        elif not template.spawned:
            self.world.template_spawned(number)

    @precondition(lambda self: self.templates(dying))
    @rule(pick=PICK, stuck=SELDOM)
    def a_template_does_as_ordered(self, pick: int, stuck: bool) -> None:
        found = self.templates(dying)
        template = found[pick % len(found)]
        if lives(template) and not (stuck and template.kills):
            self.world.template_exits(template.worker)
        elif template.kills and not template.tree_gone:
            self.world.template_tree_ends(template.worker, () if template.exited else (4711,))

    @precondition(lambda self: self.templates(lives))
    @rule(pick=PICK, how=st.sampled_from(["exit", "link"]), seldom=SELDOM)
    def a_template_falls_over(self, pick: int, how: str, seldom: bool) -> None:
        found = self.templates(lives)
        template = found[pick % len(found)]
        if seldom and how == "exit":
            self.world.template_exits(template.worker, "SIGSEGV")
        elif seldom and template.linked:
            self.world.template_loses_link(template.worker)
