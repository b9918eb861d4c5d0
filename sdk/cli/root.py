"""The `warmd` command itself: the table of commands, and what becomes of errors.

click asks each command for its short help when it prints its own.  That would import every
command, so the table below says it instead; tests/cli compares the two.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from warmd import __version__
from warmd.cli import INTERRUPTED, JSON_FLAG


class Entry(NamedTuple):
    """Where a command is found, `module:function` below `warmd.cli`, and what it says of itself."""

    place: str
    help: str


COMMANDS = {
    "run": Entry("calls:run", "Run an app: APP [INPUT], in a session or the shared pool."),
    "call": Entry("calls:call", "Call a session that exists: SESSION [FUNCTION] [INPUT]."),
    "attach": Entry("detached:attach", "Print what a detached call yields, as it comes."),
    "calls": Entry("detached:calls", "List the detached calls: under way, or ended and still kept."),
    "cancel": Entry("detached:cancel", "Cancel calls by their ids."),
    "warm": Entry("warm:warm", "Have sessions of an app ready before anybody asks for them."),
    "ps": Entry("sessions:ps", "List the sessions."),
    "top": Entry("top:top", "Watch the sessions, live, busiest first."),
    "inspect": Entry("sessions:inspect", "Show all that is known of one session."),
    "why": Entry("why:why", "Say in one line what is the matter with a session or a call."),
    "logs": Entry("sessions:logs", "Print what a session's app wrote to stdout and stderr."),
    "keepalive": Entry("sessions:keepalive", "Start a session's idle time anew."),
    "hold": Entry("sessions:hold", "Keep a session from expiring for a while."),
    "park": Entry("parking:park", "Move what sessions have on GPUs to host memory."),
    "unpark": Entry("parking:unpark", "Bring back to the GPUs what is in host memory."),
    "end": Entry("sessions:end", "End sessions, with all their processes."),
    "apps": Entry("catalog:apps", "List the apps that the daemon finds by name."),
    "app": Entry("own:app", "Make an app of your own, and try it out: new, test."),
    "demo": Entry("demo:demo", "The first minute: a session on a real model, cold against warm."),
    "bench": Entry("bench:bench", "Measure an app: its cold starts against warm calls."),
    "serve": Entry("serve:serve", "Run the daemon in the foreground."),
    "start": Entry("service:start", "Start the daemon in the background, if there is none."),
    "stop": Entry("service:stop", "Stop the daemon: let calls finish, end the sessions."),
    "status": Entry("service:status", "Show whether the daemon runs, and how it does."),
    "http": Entry("http:http", "Serve HTTP, for the clients of inference.sh and for curl."),
    "open": Entry("opening:open_page", "Open the dashboard in a browser."),
    "keys": Entry("keys:keys", "Say who may connect to this daemon over TCP."),
    "doctor": Entry("doctor:doctor", "Say what is wrong on this machine, and what helps."),
    "completion": Entry("completion:completion", "Print the completion script of a shell."),
    "version": Entry("catalog:version", "Print the version."),
}

BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.place.partition(":")
        command = getattr(importlib.import_module(f"warmd.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise click.UsageError(f"no such command {name!r}{hint}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # click would say 1, which is an app's error here; and Python flushes once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except click.UsageError as error:
            # click does not say whose option lacks its value.
            error.ctx = error.ctx or self._context_of(ctx.invoked_subcommand, ctx)
            raise
        return code

    def _context_of(self, name: str | None, ctx: click.Context) -> click.Context:
        command = None if name is None else self.get_command(ctx, name)
        return ctx if command is None else click.Context(command, info_name=name, parent=ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.command(
    cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="%(version)s")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="The daemon to talk to, as WARMD_HOST: unix:///path/warmd.sock or that path, or "
    "tcp://HOST:PORT with the key in WARMD_KEY. By default your own, which is started when it is needed.",
)
@click.pass_context
def cli(ctx: click.Context, host: str | None) -> None:  # noqa: ARG001 - read by `link.host`
    """Keeps expensive Python work warm: one long-lived process per session, called by id."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every expected error becomes one line on stderr and an exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
    except click.UsageError as error:
        return _complain(error.format_message(), error.exit_code, _help_line(error))
    except click.ClickException as error:
        return _complain(error.format_message(), getattr(error, "code", error.exit_code))
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:
        from warmd.cli.exits import report

        return report(error)
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> Any:
    try:
        return cli.main(args=arguments, prog_name="warmd", standalone_mode=False)
    except Exception as error:
        # By the words themselves: an error of usage comes before the options are known.
        words = arguments[: arguments.index("--")] if "--" in arguments else arguments
        if JSON_FLAG in words:
            from warmd.cli.exits import report_json

            report_json(error)
        raise


def _help_line(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "warmd"
    return f"Try '{path} --help'."


def _complain(message: str, code: int, *more: str) -> int:
    for line in (f"warmd: {message}", *more):
        click.echo(line, err=True)
    return code
