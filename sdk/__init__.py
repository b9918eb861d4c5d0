"""warmd keeps expensive Python work warm: one long-lived process per session, called by id.

client = warmd.Client()
r = client.run(app="counter", session="new")
client.run(app="counter", session=r.session_id).output
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from warmd import gpu as gpu
    from warmd import testing as testing
    from warmd.aio import AsyncClient as AsyncClient
    from warmd.aiosession import AsyncSession as AsyncSession
    from warmd.app import Interrupted as Interrupted
    from warmd.app import context as context
    from warmd.client import Client as Client
    from warmd.manager import SessionManager as SessionManager
    from warmd.owndaemon import local as local
    from warmd.protocol.errors import AppError as AppError
    from warmd.protocol.errors import AppMismatch as AppMismatch
    from warmd.protocol.errors import AppNotFound as AppNotFound
    from warmd.protocol.errors import CallCancelled as CallCancelled
    from warmd.protocol.errors import CallGone as CallGone
    from warmd.protocol.errors import CallTimeout as CallTimeout
    from warmd.protocol.errors import DaemonError as DaemonError
    from warmd.protocol.errors import DaemonFailed as DaemonFailed
    from warmd.protocol.errors import DaemonLost as DaemonLost
    from warmd.protocol.errors import DaemonUnavailable as DaemonUnavailable
    from warmd.protocol.errors import Draining as Draining
    from warmd.protocol.errors import FunctionNotFound as FunctionNotFound
    from warmd.protocol.errors import Invalid as Invalid
    from warmd.protocol.errors import NoRoom as NoRoom
    from warmd.protocol.errors import NoSession as NoSession
    from warmd.protocol.errors import NotAllowed as NotAllowed
    from warmd.protocol.errors import QueueFull as QueueFull
    from warmd.protocol.errors import Rejected as Rejected
    from warmd.protocol.errors import SessionDied as SessionDied
    from warmd.protocol.errors import SessionEnded as SessionEnded
    from warmd.protocol.errors import SessionExpired as SessionExpired
    from warmd.protocol.errors import SessionNotFound as SessionNotFound
    from warmd.protocol.errors import SlowConsumer as SlowConsumer
    from warmd.protocol.errors import StartFailed as StartFailed
    from warmd.protocol.errors import TooLarge as TooLarge
    from warmd.protocol.errors import WarmdError as WarmdError
    from warmd.protocol.errors import WorkerDied as WorkerDied
    from warmd.protocol.files import File as File
    from warmd.result import Info as Info
    from warmd.result import Result as Result
    from warmd.result import Timing as Timing
    from warmd.session import Session as Session

_ERRORS = (
    "AppError",
    "AppMismatch",
    "AppNotFound",
    "CallCancelled",
    "CallGone",
    "CallTimeout",
    "DaemonError",
    "DaemonFailed",
    "DaemonLost",
    "DaemonUnavailable",
    "Draining",
    "FunctionNotFound",
    "Invalid",
    "NoRoom",
    "NoSession",
    "NotAllowed",
    "QueueFull",
    "Rejected",
    "SessionDied",
    "SessionEnded",
    "SessionExpired",
    "SessionNotFound",
    "SlowConsumer",
    "StartFailed",
    "TooLarge",
    "WarmdError",
    "WorkerDied",
)
_HOMES = {
    "AsyncClient": "warmd.aio",
    "AsyncSession": "warmd.aiosession",
    "Client": "warmd.client",
    "File": "warmd.protocol.files",
    "Info": "warmd.result",
    "Interrupted": "warmd.app",
    "Result": "warmd.result",
    "Session": "warmd.session",
    "SessionManager": "warmd.manager",
    "Timing": "warmd.result",
    "context": "warmd.app",
    "local": "warmd.owndaemon",
    **dict.fromkeys(_ERRORS, "warmd.protocol.errors"),
}

_MODULES = ("gpu", "testing")

__all__ = ["__version__", *_MODULES, *_HOMES]


def __getattr__(name: str) -> Any:
    # `import warmd` is in every app and every start of the command line: it loads nothing else.
    if name in _MODULES:
        return import_module(f"warmd.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'warmd' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
