"""Edit and reload: before a call, what has changed in the app's files is taken over, and the state kept.

    look     the files of the app's own modules, by `stat`; nothing more where none has changed
    plan     which statements are executed anew (`dirty`); a file that cannot be compiled ends it here
    execute  those, in each module's own namespace as `importlib.reload` does, in the order of imports
    check    whether the state was made by code that is still there
    commit   functions get their new code, lines are moved, the log is told (`reopen`)

All of it or nothing: before `commit` everything can be undone, and is when a module raises or the check
fails.  Then calls are refused with the reason until a file is written once more; the session stays as it
is.  So they are while a file is not there that the others import.
What a module did outside of its namespace while it was executed (a thread, a file) is not undone.

The state of a session was made by the `setup` and the constructor of the app's class.  Where one of
these has changed the state is not what the app would make now, and a new session is needed; so it is where
a `cached_property` has changed whose value is there, or a class that cannot be changed in place and that the
state has instances of.  What these call in turn is not looked at.

A value at the top of a module is made anew when its statement, or what it may depend on, was edited: so
is a model that was loaded there.  State belongs into the instance.

What was noted of a file is what was imported, not what was there a moment later: a file that changed
while its import ran (an import can take long) counts as not known, and is executed as a whole.
"""

from __future__ import annotations

import ast
import gc
import linecache
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from warmd.app import Interrupted
from warmd.daemon.worker import output, sources, typed
from warmd.daemon.worker.dirty import Edit, imports_of
from warmd.daemon.worker.held import held_of
from warmd.daemon.worker.load import PREPARE, App, find_class
from warmd.daemon.worker.modules import edits_of, modules_of
from warmd.daemon.worker.reopen import Reopening, move_lines
from warmd.daemon.worker.runtime import NotReloaded
from warmd.daemon.worker.swap import innermost, same_function
from warmd.daemon.worker.text import describe

if TYPE_CHECKING:
    from types import ModuleType

MAKERS = ("__new__", "__init__", "__post_init__", "setup")
"""What the state of a session was made by, besides a `prepare`."""
COARSE_NS = 20_000_000
"""By so much the time of a file's change may be told too early; of two changes within it one shows."""

MOST_WAITS = 10
"""Of that time, for a file that is written again and again."""

Run = Callable[[Callable[[], object]], object]


class _Stat(NamedTuple):
    modified_ns: int
    changed_ns: int
    size: int
    inode: int


@dataclass
class _Watched:
    """A module's file."""

    module: str
    path: str
    seen: _Stat | None
    """When its text was read; None: look once more."""
    applied: bytes | None
    """The text by which the module is what it is; None where that is not known."""
    latest: bytes | None
    modified_ns: int = 0
    """Of the latest text."""
    is_gone: bool = False


@dataclass(frozen=True)
class _Change:
    """What is to be done about one module."""

    module: ModuleType
    watched: _Watched
    edit: Edit
    code: CodeType
    """Of the whole new text."""


class Reloader:
    """Keeps one app what its files say.  Made right after its import."""

    def __init__(self, target: str, began_ns: int) -> None:
        """`began_ns`: the wall clock's time before the import began, as files have it."""
        self.remedy = "open a new session, or undo the change"
        self.may_be_async = False
        """The app runs in an event loop."""
        self._target = target
        self._watched: dict[str, _Watched] = {}
        self._modules: tuple[int, str] | None = None
        """How many there are, and the last one."""
        self._scanned_ns = began_ns
        self._refusal: str | None = None
        self.scan()

    def scan(self) -> None:
        """Note the modules that were imported since."""
        now, modules = time.time_ns(), (len(sys.modules), next(reversed(sys.modules)))
        if modules != self._modules:
            for name, path in sources.own_modules():
                if name not in self._watched and _is_of_the_app(name, path):
                    self._watch(name, path)
        self._modules, self._scanned_ns = modules, now

    def _watch(self, name: str, path: str) -> None:
        found = _read(path)
        if found is None:
            return
        stat, text = found
        was_imported = max(stat.modified_ns, stat.changed_ns) < self._scanned_ns - COARSE_NS
        applied = text if was_imported else None
        self._watched[name] = _Watched(
            name, path, stat if was_imported else None, applied, applied, stat.modified_ns
        )

    def renew(self, app: App, run: Run) -> App:
        """Take over what has changed.  Returns the app as it is now, `app` itself if nothing has.

        `run` runs the app's own code.  Raises NotReloaded, and the interrupt of a call.
        """
        self.scan()
        looked = [watched for watched in self._watched.values() if _look(watched.path) != watched.seen]
        if looked and _read_settled(looked):
            self._refusal = None
            if any(watched.latest != watched.applied for watched in self._watched.values()):
                app = self._reload(app, run)
        if self._refusal is not None:
            raise NotReloaded(self._refusal)
        if any(watched.is_gone for watched in looked):
            self._check_gone()
        return app

    def _check_gone(self) -> None:
        """Raises NotReloaded where the app is made of a file that is not there."""
        needed = {self._target.partition(":")[0]}
        for name, watched in self._watched.items():
            imports = [] if watched.is_gone else imports_of(_parsed(watched.latest, watched.path))
            needed.update(module for one in imports for module in modules_of(one, name))
        for name, watched in self._watched.items():
            if watched.is_gone and name in needed:
                raise NotReloaded(f"{watched.path} of the app is not there any more: {self.remedy}")

    def _reload(self, app: App, run: Run) -> App:
        try:
            changes = self._plan()
            app = self._execute(changes, app, run)
        except Interrupted:
            # That call is over; the next one tries again.
            for watched in self._watched.values():
                if watched.latest != watched.applied:
                    watched.seen, watched.latest = None, watched.applied
            raise
        except NotReloaded as error:
            self._refuse(str(error))
        except BaseException as error:
            self._refuse(self._where(error), describe(error).traceback)
        else:
            for change in changes:
                change.watched.applied = change.watched.latest
            typed.forget()
            self.scan()
        return app

    def _refuse(self, reason: str, traceback: str = "") -> None:
        self._refusal = f"the app was edited and could not be reloaded: {reason}"
        output.note(f"{self._refusal}{chr(10) if traceback else ''}{traceback}".rstrip())

    def _where(self, error: BaseException) -> str:
        """`file:line: Type: message`."""
        kind, message, _ = describe(error)
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}:{error.lineno}: {kind}: {error.msg}"
        place, step = "", error.__traceback__
        ours = {watched.path for watched in self._watched.values()}
        while step is not None:
            if step.tb_frame.f_code.co_filename in ours:
                place = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}: "
            step = step.tb_next
        return f"{place}{kind}: {message}"

    # Plan.

    def _plan(self) -> list[_Change]:
        """In the order in which they are to be executed.  Raises SyntaxError, ValueError."""
        trees = {name: _parsed(one.latest, one.path) for name, one in self._watched.items()}
        edits = edits_of({name: self._known(name) for name in trees}, trees)
        changes: list[_Change] = []
        for name, edit in edits.items():
            watched, module = self._watched[name], sys.modules.get(name)
            if module is None or watched.latest is None:
                continue
            if edit.statements or edit.gone or watched.latest != watched.applied:
                code = compile(watched.latest, watched.path, "exec", dont_inherit=True)
                changes.append(_Change(module, watched, edit, code))
        return changes

    def _known(self, name: str) -> ast.Module | None:
        watched = self._watched[name]
        return None if watched.applied is None else _parsed(watched.applied, watched.path)

    # Execute, check, commit.

    def _execute(self, changes: list[_Change], app: App, run: Run) -> App:
        """Raises what the modules raise, and NotReloaded; then nothing has changed."""
        linecache.checkcache()
        gc.unfreeze()  # what came from the template holds classes too, and is to be found
        namespaces = {one.watched.module: vars(one.module) for one in changes}
        edits = {(one.watched.module, name): e for one in changes for name, e in one.edit.classes.items()}
        makers = self._makers(app)
        reopening = Reopening(namespaces, edits)
        try:
            with reopening.class_statements():
                for one in changes:
                    self._execute_one(one, run)
            reopening.settle()
            self._check(app, makers)
            self._check_held(app, reopening.replaced)
            renewed = app.again()
            if renewed.is_async and not self.may_be_async:
                raise NotReloaded(f"the app has an async function now, and had none: {self.remedy}")
        except BaseException:
            reopening.undo()
            raise
        reopening.commit()
        move_lines([(vars(one.module), one.watched.module, one.code) for one in changes])
        _tell(changes, reopening.replaced)
        return renewed

    def _execute_one(self, change: _Change, run: Run) -> None:
        namespace = vars(change.module)
        for name in change.edit.gone:
            namespace.pop(name, None)
        if change.edit.statements:
            tree = ast.Module(change.edit.statements, [])
            code = compile(tree, change.watched.path, "exec", dont_inherit=True)
            run(lambda: exec(code, namespace))

    def _makers(self, app: App) -> dict[tuple[type, str], Any]:
        """What has made the session's state, of the app's own files."""
        own = [one for one in app.cls.__mro__ if one.__module__ in self._watched]
        made = getattr(app.instance, "__dict__", {})
        return {
            (one, name): value
            for one in own
            for name, value in vars(one).items()
            if name in MAKERS
            or (name == PREPARE and app.prepares)
            or (isinstance(value, cached_property) and name in made)
        }

    def _check_held(self, app: App, replaced: list[type]) -> None:
        """Raises NotReloaded where the instance has something of a class that is another one now."""
        former = held_of(app.instance, replaced) if replaced else None
        if former is not None:
            raise NotReloaded(
                f"the class {former.__qualname__} of {_file_of(former)} cannot be changed in place, and the "
                f"state of this session has what was made by it: {self.remedy}"
            )

    def _check(self, app: App, before: Mapping[tuple[type, str], Any]) -> None:
        """Raises NotReloaded where the instance is not what the app would make now."""
        if self._target and find_class(self._target) is not app.cls:
            raise NotReloaded(
                f"the class {app.cls.__qualname__} of {_file_of(app.cls)} cannot be changed in place "
                f"(its bases, its slots or its fields are others): {self.remedy}"
            )
        after = self._makers(app)
        for cls, name in {**before, **after}:
            old, new = before.get((cls, name)), after.get((cls, name))
            if not same_function(old, new):
                line = getattr(getattr(innermost(new), "__code__", None), "co_firstlineno", None)
                place = f"{_file_of(cls)}:{line}" if line else _file_of(cls)
                raise NotReloaded(
                    f"{cls.__qualname__}.{name} has changed ({place}), and what it was before has made the "
                    f"state of this session: {self.remedy}"
                )


def _is_of_the_app(name: str, path: str) -> bool:
    ours = name.partition(".")[0] == "warmd" and not name.startswith("warmd.apps.")
    return not ours and name not in ("__main__", "__mp_main__") and path.endswith(".py")


def _look(path: str) -> _Stat | None:
    try:
        found = os.stat(path)
    except OSError:  # it is being written anew
        return None
    return _Stat(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _read(path: str) -> tuple[_Stat, bytes] | None:
    # A change in between shows at the next look.
    stat = _look(path)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return None
    return None if stat is None else (stat, text)


def _read_settled(looked: list[_Watched]) -> bool:
    """Read what may have changed, and whether it has; what is just being written is waited for."""
    changed = [one for one in looked if _read_again(one)]
    news = changed
    for _ in range(MOST_WAITS):
        young = [one for one in looked if one.seen is None]
        if not news or not young:
            break
        time.sleep(COARSE_NS / 1e9)
        news = [one for one in young if _read_again(one)]
    return bool(changed)


def _read_again(watched: _Watched) -> bool:
    """Whether its text is another than at the last look, or was written once more."""
    found = _read(watched.path)
    if found is None:
        was_there, watched.is_gone, watched.seen = not watched.is_gone, True, None
        return was_there
    stat, text = found
    is_settled = time.time_ns() - max(stat.modified_ns, stat.changed_ns) > COARSE_NS
    watched.seen = stat if is_settled else None
    is_other = watched.is_gone or (text, stat.modified_ns) != (watched.latest, watched.modified_ns)
    watched.latest, watched.modified_ns, watched.is_gone = text, stat.modified_ns, False
    return is_other


def _parsed(text: bytes | None, path: str) -> ast.Module:
    """Raises SyntaxError, ValueError."""
    return ast.parse(text or b"", path)


def _file_of(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", cls.__module__))


def _tell(changes: list[_Change], replaced: list[type]) -> None:
    """A line of the log for each file of which something was swapped."""
    for one in changes:
        remade = f"; made anew: {', '.join(one.edit.remade)}" if one.edit.remade else ""
        if one.edit.edited or remade:
            edited = ", ".join(one.edit.edited) or "nothing itself"
            output.note(f"reloaded {os.path.basename(one.watched.path)}: {edited}{remade}")
    if replaced:
        names = ", ".join(cls.__qualname__ for cls in replaced)
        output.note(f"{names} could not be changed in place: what was made by it before is as it was")
