"""`completion`: the shell's script, and the answers that it asks for.

Answers come from the daemon only if one runs, within `PATIENCE_SECONDS`: a shell that waits for
<Tab> is worse than one that offers nothing.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from warmd.cli.talk import data, short
from warmd.protocol.names import PREFIX, is_gone

if TYPE_CHECKING:
    from warmd.client import Client

PATIENCE_SECONDS = 0.5

SHELLS = ("bash", "zsh", "fish")
LINES = {
    "bash": 'eval "$(warmd completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(warmd completion zsh)"     # in ~/.zshrc',
    "fish": "warmd completion fish | source      # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(LINES.values()))
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, session ids and the names of apps.
    """
    from warmd.cli.root import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # click's own `source()` starts a shell to look at its version, which nobody here asked for.
    script = kind(cli, {}, "warmd", "_WARMD_COMPLETE")
    data(script.source_template % script.source_vars())


def complete_sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The living sessions whose id or name begins with what was typed."""

    def offer(info: dict[str, Any]) -> list[CompletionItem]:
        whole = info["id"]
        shown = whole if incomplete.startswith(PREFIX[:2]) else short(whole)
        about = f"{info['app']} {info['state']}"
        names = [shown, *([info["name"]] if info["name"] else [])]
        return [CompletionItem(name, help=about) for name in names if name.startswith(incomplete)]

    listed = _asked(ctx, lambda client: client.sessions.list())
    living = [info for info in listed if info["kind"] == "session" and not is_gone(info)]
    return [item for info in living for item in offer(info)]


def complete_calls(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The ids of detached calls."""
    found = _asked(ctx, lambda client: client.calls.list())
    return [
        CompletionItem(call["id"], help=f"{call['function']} {call['state']}")
        for call in found
        if call["id"].startswith(incomplete)
    ]


def complete_apps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """The names of apps that begin with what was typed."""
    found = _asked(ctx, lambda client: client.apps())
    return [
        CompletionItem(app["name"], help=app["source"]) for app in found if app["name"].startswith(incomplete)
    ]


def _asked(ctx: click.Context, question: Callable[[Client], Iterable[Any]]) -> list[Any]:
    """The daemon's list, or an empty one when anything at all goes wrong."""
    from warmd.cli.link import open_client

    try:
        with _patience(PATIENCE_SECONDS), open_client(ctx, autostart=False) as client:
            return list(question(client))
    except Exception:  # a traceback between the user's keystrokes helps nobody
        return []


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after this time, whatever it waits for."""

    def over(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
