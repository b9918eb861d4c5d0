"""`http`: the gateway in the foreground, and the keys of those who may come in."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warmd.cli.exits import BAD_CONFIG, UNAVAILABLE, Refusal
from warmd.cli.link import named_address, open_client
from warmd.cli.talk import data, date, json_object, json_option, say, table
from warmd.protocol import places
from warmd.protocol.errors import told

if TYPE_CHECKING:
    from warmd.http.keys import Keys
    from warmd.http.options import Options

Command = Callable[..., Any]
METAVARS = {"texts": "LIST", "origins": "LIST", "number": "N"}
SCOPES = ("run", "read", "admin")


def gateway_options(command: Command) -> Command:
    """Adds one option for each of the gateway's, so that the two cannot drift apart."""
    from warmd.http.options import described, shown, variable_of

    for one in reversed(described()):
        kind, flag = one.metadata["kind"], "--" + one.name.replace("_", "-")
        text = f"{one.metadata['doc'].capitalize()}.  [{shown(one)}; {variable_of(one)}]"
        if kind == "switch":
            option = click.option(f"{flag}/--no-{flag[2:]}", one.name, default=None, help=text)
        else:
            option = click.option(flag, one.name, metavar=METAVARS.get(kind, kind.upper()), help=text)
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option(
    "--listen", metavar="HOST:PORT", help="Where to listen.  [127.0.0.1:8470; WARMD_HTTP_LISTEN]"
)
@click.option("--http-open", "is_open", is_flag=True, help="Let anybody in without a key; loopback alone.")
@gateway_options
@click.option("--log-level", type=click.Choice(["info", "warning", "error"]), default="info")
@click.option("--lifeline-fd", type=int, hidden=True, help="It stops at its end of file.")
@click.option("--kept", is_flag=True, hidden=True, help="Another process starts it again.")
@click.pass_context
def http(
    ctx: click.Context,
    /,
    listen: str | None,
    is_open: bool,
    log_level: str,
    lifeline_fd: int | None,
    kept: bool,
    **flags: Any,
) -> int | None:
    """Serve HTTP, for the clients of inference.sh and for curl.

    Runs in the foreground, as a client of the daemon, which is started if there is none. Who asks needs
    a key (`warmd http keys add NAME`), unless --http-open is given.
    """
    if ctx.invoked_subcommand is not None:
        return None
    given = gateway_options_of(listen, is_open, flags)
    if lifeline_fd is not None and not kept:
        from warmd.http.keeper import keep

        return keep([sys.executable, "-m", "warmd", *sys.argv[1:], "--kept"], lifeline_fd)
    return serve_gateway(given, log_level, lifeline_fd)


def check_gateway(listen: str, is_open: bool, run_dir: Path) -> None:
    """Raises Refusal where a gateway could not come up beside the daemon that is about to start there."""
    options = gateway_options_of(listen, is_open)
    _check_keys(options, _keys(run_dir))
    try:
        with socket.create_server((options.host, options.port), family=options.family):
            pass
    except OSError as error:
        raise _no_listening(options, error) from None


def gateway_options_of(
    listen: str | None, is_open: bool = False, flags: Mapping[str, Any] | None = None
) -> Options:
    """What was given by flags, by variables, or by nobody.  Raises Refusal (exit code 78)."""
    from warmd.http.options import options

    try:
        return options(listen, is_open, flags or {}, os.environ)
    except ValueError as error:
        raise Refusal(str(error), BAD_CONFIG) from None


def _check_keys(options: Options, keys: Keys) -> None:
    if not options.open and not keys.callers():
        raise Refusal(
            "nobody has a key, so nobody could come in: make one with `warmd http keys add NAME`, or let "
            "anybody on this machine in with --http-open",
            BAD_CONFIG,
        )


def _no_listening(options: Options, error: OSError) -> Refusal:
    if error.errno == errno.EADDRINUSE:
        reason = "somebody listens there already, perhaps another gateway: choose another port"
    else:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else told(error)
    code = BAD_CONFIG if isinstance(error, (PermissionError, socket.gaierror)) else UNAVAILABLE
    return Refusal(f"cannot listen at {options.address}: {reason}", code)


def serve_gateway(
    options: Options,
    log_level: str,
    lifeline_fd: int | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> int:
    """Serve until it is told to stop; the exit code.  `on_ready` is told the address.  Raises Refusal."""
    need_http()
    from warmd.http.server import serve

    folder, keys = gateway_folder(), gateway_keys()
    _check_keys(options, keys)
    if lifeline_fd is None:
        with open_client() as client:
            client.status()
            address = client.address
    else:
        address = named_address() or ""
    try:
        serve(options, address, folder, keys, on_ready, lifeline_fd, log_level)
    except ValueError as error:
        raise Refusal(str(error), BAD_CONFIG) from None
    except OSError as error:
        raise _no_listening(options, error) from None
    return 0


@http.group()
def keys() -> None:
    """Say who may ask the gateway.

    A key may do what its scopes name: run (begin, cancel, end), read (look), admin (all of it, and see
    what belongs to other keys).
    """


@keys.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Repeatable.  [run, read]")
@click.option("--rate", type=float, metavar="N", help="Requests a second; 0: no limit.  [the gateway's]")
@json_option
def add(name: str, scopes: tuple[str, ...], rate: float | None, as_json: bool) -> None:
    """Make a key and print it, this once.

    Its owner sends it as `Authorization: Bearer wk_...`; the official clients call it their API key.
    """
    with _kept_keys() as kept:
        text = kept.add(name, scopes or ("run", "read"), rate)
    if as_json:
        json_object(name=name, key=text, scopes=list(scopes or ("run", "read")), rate=rate)
    else:
        data(text)
        say(f"warmd: whoever has this key is {name!r}; it is stored nowhere here, so keep it")


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the keys."""
    with _kept_keys() as kept:
        found: list[dict[str, Any]] = [
            {
                "name": one.name,
                "id": one.id,
                "scopes": sorted(one.scopes),
                "rate": one.rate,
                "created": kept.created(one.name),
            }
            for one in kept.callers()
        ]
    if as_json:
        json_object(keys=found)
    elif found:
        data(table(["NAME", "SCOPES", "RATE", "CREATED"], [_row(key) for key in found]))
    else:
        say("no keys")


def _row(key: dict[str, Any]) -> list[str]:
    rate = "-" if key["rate"] is None else f"{key['rate']:g}/s" if key["rate"] else "any"
    return [key["name"], ", ".join(key["scopes"]), rate, date(key["created"])]


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@json_option
def revoke(names: tuple[str, ...], as_json: bool) -> None:
    """Let keys in no more, from the next request on."""
    with _kept_keys() as kept:
        for name in names:
            kept.revoke(name)
    if as_json:
        json_object(revoked=names)
    else:
        say(f"warmd: revoked {', '.join(names)}")


@contextlib.contextmanager
def _kept_keys() -> Iterator[Keys]:
    """The keys; what is wrong with them, or with a name, is said in a sentence."""
    found = _keys(_run_dir())
    try:
        yield found
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise Refusal(f"keys cannot be kept in {found.path}: {told(error)}", BAD_CONFIG) from None


def _keys(run_dir: Path) -> Keys:
    try:
        from warmd.http.keys import Keys
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None
    return Keys(places.keys_dir(run_dir) / "http")


def _not_installed(error: ModuleNotFoundError) -> Refusal:
    package = str(error.name).partition(".")[0]
    return Refusal(f"the gateway needs {package}: pip install 'warmd[http]'", BAD_CONFIG)


def need_http() -> None:
    """Raises Refusal where the extra `http` is not installed."""
    try:
        importlib.import_module("warmd.http.server")
    except ModuleNotFoundError as error:
        raise _not_installed(error) from None


def gateway_keys() -> Keys:
    """Those of the gateways of the daemon that is meant."""
    return _keys(_run_dir())


def gateway_folder() -> Path:
    """For each daemon one of its own: what is in there belongs to that one's calls."""
    address = named_address() or ""
    far = address.removeprefix(places.TCP_SCHEME)
    name = "http" if far == address else f"http-{far.replace(':', '-')}"
    return places.state_dir(_run_dir()) / name


def _run_dir() -> Path:
    """The daemon's; the user's own before a daemon on another machine."""
    given = named_address()
    if not given or given.startswith(places.TCP_SCHEME):
        return places.default_run_dir()
    try:
        return places.path_of(given).parent
    except ValueError as error:
        raise click.UsageError(str(error)) from None
