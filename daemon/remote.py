"""The clients' socket over TCP: who may come in, and what they may not ask for.

Theory
------
* libzmq copies a socket's options into each listener at its `bind`.  So one ROUTER serves both
  kinds: its Unix listener is bound plain, then CURVE is switched on, and TCP is bound.
* In the handshake a client proves that it has the secret of its public key, and the daemon that it
  has the one of the key that the client was given.  Whether that public key may come in libzmq asks
  over `inproc://zeromq.zap.01` (ZAP, RFC 27); without a daemon there to answer, nobody comes in.
* The answer names the client, and libzmq puts that into each of its messages (`User-Id`).
* A host that vanishes says nothing.  Over TCP libzmq's threads exchange heartbeats; a program that
  computes answers them too, one that is stopped (SIGSTOP) does not, and is taken for gone.
* Nobody can be kept from connecting, but who is too many is hung up on at once.

Whoever has a key may use the apps of this machine, their sessions and logs, as its user does.  What
would let them run code of their own here, or lock out its user, they may not.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping

import zmq

from warmd.daemon.loop import Loop
from warmd.protocol.errors import Problem
from warmd.protocol.keys import HEARTBEAT_MILLISECONDS, SILENCE_MILLISECONDS, KeyFolder
from warmd.protocol.messages import Call, FromClient, Request

log = logging.getLogger("warmd.remote")

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"warmd"
CURVE_BYTES = 64
"""What a frame grows by, at most, when it is encrypted."""
FORBIDDEN_VERBS = frozenset({"stop", "keys.reload"})


class Remote:
    """A TCP listener beside the Unix one, and the keys that it lets in.

    `address` is `tcp://HOST:PORT`; port 0 takes a free one, and `address` says which.
    """

    def __init__(self, loop: Loop, address: str, keys: KeyFolder) -> None:
        self.address = address
        self._loop = loop
        self._keys = keys
        self._names: Mapping[bytes, str] = {}
        self._zap: zmq.Socket[bytes] | None = None
        self._zap_fd = -1

    def bind(self, router: zmq.Socket[bytes]) -> None:
        """Listen with `router`, whose Unix listener is bound.  Raises OSError, ValueError."""
        self.admit(self._keys.clients())
        secret = self._keys.daemon_secret()
        self._answer_from(router.context)
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, secret),
            (zmq.ZAP_DOMAIN, DOMAIN),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
            (zmq.IPV6, int("[" in self.address)),
            (zmq.MAXMSGSIZE, int(router.getsockopt(zmq.MAXMSGSIZE)) + CURVE_BYTES),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MILLISECONDS),
            (zmq.HEARTBEAT_TIMEOUT, SILENCE_MILLISECONDS),
        ):
            router.setsockopt(option, value)
        try:
            router.bind(self.address)
        except zmq.ZMQError as error:
            text = f"{zmq.strerror(error.errno or 0)} (setting listen)"  # the error's own has the address too
            raise OSError(error.errno, text, self.address) from error
        self.address = str(router.getsockopt_string(zmq.LAST_ENDPOINT))
        if not self._names:
            log.warning("no client has a key for %s yet: `warmd keys new NAME` makes one", self.address)

    def admit(self, names: Mapping[bytes, str]) -> None:
        """From now on these public keys, and no others, may come in."""
        self._names = names

    def client_of(self, frame: zmq.Frame) -> tuple[str, str] | None:
        """Public key (hex) and name of the client that sent this; None where it may not (any more)."""
        with contextlib.suppress(zmq.ZMQError, ValueError):
            key = str(frame.get("User-Id"))
            name = self._names.get(bytes.fromhex(key))
            return None if name is None else (key, name)
        return None

    def knows(self, key: str) -> bool:
        return bytes.fromhex(key) in self._names

    def close(self) -> None:
        if self._zap is not None:
            self._loop.unwatch(self._zap_fd)
            self._zap.close(0)

    def _answer_from(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(ZAP_ENDPOINT)
        self._zap_fd = int(self._zap.getsockopt(zmq.FD))
        self._loop.watch(self._zap_fd, lambda _mask: self._answer())

    def _answer(self) -> None:
        """Answer all that is asked; the descriptor is edge-triggered."""
        zap = self._zap
        assert zap is not None
        while int(zap.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            version, request, _domain, address, _identity, mechanism, *credentials = zap.recv_multipart()
            key = credentials[0] if mechanism == b"CURVE" and credentials else b""
            if key in self._names:
                answer = (b"200", b"OK", key.hex().encode())
            else:
                log.warning("a client at %s has no key that is known here", address.decode(errors="replace"))
                answer = (b"400", b"this key is not known", b"")
            zap.send_multipart([version, request, *answer, b""])


def forbidden(message: FromClient) -> Problem | None:
    """Why this may not be asked for over TCP."""
    if isinstance(message, Request):
        return _forbidden_request(message)
    if not isinstance(message, Call):
        return None
    app, new = message.app, message.new
    if message.pickled or (app is not None and app.digest is not None):
        return _not_here(f"a class given by value would run the client's code there; {_INSTALL}")
    if app is not None and (app.origin is not None or not _is_name(app.name)):
        return _not_here(f"{app.name[:80]!r} is a folder or module; {_INSTALL}")
    if new is not None and new.env:
        return _not_here("variables (env) could load other code; set them where the daemon is started")
    return None


def _forbidden_request(request: Request) -> Problem | None:
    if request.verb in FORBIDDEN_VERBS:
        return _not_here(f"{request.verb!r} is for the daemon's own machine")
    name = str(request.arguments.get("app", ""))
    if request.verb == "apps.describe" and (request.arguments.get("origin") or not _is_name(name)):
        return _not_here(f"{name[:80]!r} is a folder or module; {_INSTALL}")
    return None


def _is_name(app: str) -> bool:
    """Whether it names an app that was put there, and not any file or module of this machine."""
    return os.sep not in app and ":" not in app


_INSTALL = "put the app into one of the daemon's app_folders and call it by its name"


def _not_here(why: str) -> Problem:
    return Problem("NOT_ALLOWED", f"not over TCP: {why}")
