"""`open`: the gateway's page in a browser.

The key goes in the fragment of the address, which no browser sends to a server and no server logs.  Nor
does it stand in the browser's command line, which all users of the machine can read: what is opened is
a file that leads on to the page, readable by this user only.
"""

from __future__ import annotations

import html
import os
import sys
import tempfile
import threading
from pathlib import Path

import click

from warmd.cli.exits import BAD_CONFIG, UNAVAILABLE, Refusal
from warmd.cli.http import gateway_folder, gateway_keys, gateway_options_of, need_http, serve_gateway
from warmd.cli.talk import data, say
from warmd.protocol.errors import told

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Without one of them only browsers of the terminal would be found."""
LEADS_ON = (
    '<!doctype html><meta charset="utf-8"><title>warmd</title>'
    '<meta http-equiv="refresh" content="0;url={0}"><a href="{0}">warmd</a>\n'
)


@click.command("open")
@click.option("--print", "only_print", is_flag=True, help="Print the address, with the key; open nothing.")
@click.option("--listen", metavar="HOST:PORT", help="Where to serve, if no gateway does.  [127.0.0.1:8470]")
def open_page(only_print: bool, listen: str | None) -> int:
    """Open the dashboard: sessions, calls, logs, live, and a form to try apps.

    Where no gateway serves yet, this one does, until Ctrl-C; else it returns at once.  The page's key is
    made when it is needed first (`warmd http keys list`: warmd-open).  Where there is no browser the
    address is printed, for one elsewhere: over SSH, `ssh -L 8470:127.0.0.1:8470 HOST` brings the port to it.
    """
    need_http()
    from warmd.http import serving

    folder = gateway_folder()
    for running in serving.found(folder):
        if listen is not None:
            raise Refusal(f"a gateway serves at {running.url} already: leave --listen out", BAD_CONFIG)
        _show(running.url, None if running.open else _key(folder), folder, only_print)
        return 0
    return _serve(listen, folder, only_print)


def _serve(listen: str | None, folder: Path, only_print: bool) -> int:
    key = _key(folder)  # so that somebody may come in

    def ready(url: str) -> None:
        threading.Thread(target=_show, args=(url, key, folder, only_print), daemon=True).start()

    return serve_gateway(gateway_options_of(listen), "warning", on_ready=ready)


def _show(url: str, key: str | None, folder: Path, only_print: bool) -> None:
    address = f"{url}/" if key is None else f"{url}/#key={key}"
    if not only_print and _browse(address, folder):
        say(f"warmd: opened {url}/ (`warmd open --print` prints an address with the key)")
        return
    data(address)
    if not only_print:
        say("warmd: there is no browser here to open it with; the key in it is as good as a password")


def _browse(address: str, folder: Path) -> bool:
    """Whether a browser was found; it is not waited for."""
    import webbrowser

    if sys.platform != "darwin" and not any(map(os.environ.get, SCREENS)):
        return False
    path = folder / "open.html"
    descriptor, draft = tempfile.mkstemp(dir=folder, suffix=".html")  # for this user alone
    with open(descriptor, "w") as file:
        file.write(LEADS_ON.format(html.escape(address, quote=True)))
    os.replace(draft, path)
    return webbrowser.open(path.as_uri())


def _key(folder: Path) -> str:
    from warmd.http.pagekey import page_key

    try:
        return page_key(folder, gateway_keys())
    except OSError as error:
        raise Refusal(f"the page's key cannot be kept in {folder}: {told(error)}", UNAVAILABLE) from None
