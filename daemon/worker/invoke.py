"""Calls of a sync app: one after another, in the main thread, between blocking waits on the link."""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeAlias

from warmd.app import Interrupted
from warmd.daemon.worker import output
from warmd.daemon.worker.parking import Parking, without_waiting
from warmd.daemon.worker.runtime import Runtime
from warmd.daemon.worker.text import describe, message_of, type_name
from warmd.daemon.worker.unfit import Unfit
from warmd.daemon.worker.window import Window
from warmd.protocol.gpus import Park, Unpark
from warmd.protocol.mappings import Borrowed
from warmd.protocol.messages import NOTHING
from warmd.protocol.parcels import Parcel, Value
from warmd.protocol.values import Unpackable, pack_apart, unpack
from warmd.protocol.work import (
    AskCancel,
    Declined,
    Finish,
    Invoke,
    MoreCredit,
    NoFunction,
    Raised,
    Returned,
    Yielded,
)
from warmd.protocol.work import Interrupted as CutOff

Reply: TypeAlias = Returned | Raised | Declined | NoFunction | CutOff


def packed(runtime: Runtime, value: Any, name: str) -> Value:
    """What a function gave back, as it travels.  Raises TypeError and ValueError."""
    try:
        body = pack_apart(value, name)
    except Unpackable as error:
        raise TypeError(
            f"{error}; give back plain values: None, bool, numbers, text, bytes, lists, dicts, arrays, "
            "tensors, tables"
        ) from None
    if len(body) > runtime.max_message_bytes:
        raise ValueError(
            f"the {name} has {len(body)} bytes packed, the limit is {runtime.max_message_bytes} "
            "(max_message_bytes): yield it in parts, or write it to a file and return the path"
        )
    return body


def arguments(runtime: Runtime, invoke: Invoke) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function of a call and what to give it.

    Raises Unfit, NotReloaded, UnknownFunction, and what an interrupt raises.
    """
    if runtime.reloader is not None:
        runtime.reload(runtime.reloader, invoke.function)
    try:
        plan = runtime.app.plan(invoke.function)
        value = unpack(invoke.input) if len(invoke.input) else None
        args, kwargs = runtime.guarded(plan.arguments, value) if plan.needs_work else plan.arguments(value)
    except Unfit:
        raise
    except Exception as error:
        told = f"{type_name(error)}: {message_of(error)}".rstrip(": ")
        raise Unfit([f"{invoke.function}(): its input cannot be used: {told}"]) from error
    finally:
        # Then the memory of the input is handed back together with the answer.
        if isinstance(invoke.input, Parcel) and isinstance(invoke.input.region, Borrowed):
            invoke.input.region.close()
    return plan.function, args, kwargs


class Calls:
    """Serves a sync app."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._finish: Finish | None = None
        self._parking = Parking(runtime, self._run_hook)

    def serve(self) -> Finish:
        """Answers calls until the daemon says to finish."""
        receive, send = self._runtime.link.receive, self._runtime.link.send
        while self._finish is None:
            message = receive()
            if type(message) is Invoke:
                send(self._answer(message))
            elif type(message) is Finish:
                self._finish = message
            elif type(message) is Park or type(message) is Unpark:
                send(without_waiting(self._parking.answer(message)))
            # A late MoreCredit or AskCancel meant a call that is over.  An idle worker must not
            # hold on to the input of its last call.
            del message
        return self._finish

    async def _run_hook(self, hook: Callable[[], Any]) -> None:
        refuse_awaitable(self._runtime.guarded(hook), getattr(hook, "__name__", "hook"))

    def _answer(self, invoke: Invoke) -> Reply:
        runtime = self._runtime
        try:
            reply = self._reply(invoke) if runtime.begin(invoke) else CutOff(invoke.ordinal, 0.0)
        except BaseException as error:
            # An interrupt that hit between the app's code and its disarming.
            runtime.armed = False
            reply = runtime.bad_end(invoke.ordinal, error)
        runtime.end()
        return reply

    def _reply(self, invoke: Invoke) -> Reply:
        runtime = self._runtime
        try:
            function, args, kwargs = arguments(runtime, invoke)
            result = runtime.guarded(function, *args, **kwargs)
            if type(result) is GeneratorType:
                return self._stream(invoke, result)
            refuse_awaitable(result, invoke.function)
            return Returned(invoke.ordinal, runtime.seconds(), 0, packed(runtime, result, "result"))
        except BaseException as error:
            return runtime.bad_end(invoke.ordinal, error)

    def _stream(self, invoke: Invoke, generator: GeneratorType[Any, Any, Any]) -> Reply:
        runtime, parts, last, is_empty = self._runtime, 0, None, True
        window = None if invoke.window is None else Window(invoke.window, invoke.window_bytes)
        try:
            for value in _guarded_values(runtime, generator):
                if runtime.asked_to_stop():
                    return CutOff(invoke.ordinal, runtime.seconds())
                is_empty = False
                if window is None:
                    last = value
                    continue
                body = packed(runtime, value, f"part {parts}")
                if not window.is_open and not self._opens(window, invoke):
                    return CutOff(invoke.ordinal, runtime.seconds())
                runtime.link.send(Yielded(invoke.ordinal, parts, body))
                window.sent(len(body))
                parts += 1
            if is_empty:
                runtime.app.check_not_empty(invoke.function)
            body = packed(runtime, last, "result") if window is None else NOTHING
            return Returned(invoke.ordinal, runtime.seconds(), parts, body)
        finally:
            self._close(generator)

    def _opens(self, window: Window, invoke: Invoke) -> bool:
        """Waits until the consumer has room for a part; False when it wants no more of them."""
        early: list[Invoke] = []
        try:
            while not window.is_open and not self._runtime.asked_to_stop():
                message = self._runtime.link.receive()
                if type(message) is MoreCredit and message.ordinal == invoke.ordinal:
                    window.more(message.parts)
                elif type(message) is AskCancel and message.ordinal == invoke.ordinal:
                    return False
                elif type(message) is Finish:
                    self._finish = message
                    return False
                elif type(message) is Invoke:
                    early.append(message)
            return window.is_open
        finally:
            for call in reversed(early):
                self._runtime.link.put_back(call)

    def _close(self, generator: GeneratorType[Any, Any, Any]) -> None:
        try:
            self._runtime.spare()
            self._runtime.guarded(generator.close)
        except Interrupted:
            return
        except BaseException as error:
            output.note(f"closing the generator raised:\n{describe(error).traceback}")


def _guarded_values(runtime: Runtime, generator: GeneratorType[Any, Any, Any]) -> Any:
    while True:
        try:
            value = runtime.guarded(next, generator)
        except StopIteration:
            return
        yield value


def refuse_awaitable(result: Any, function: str) -> None:
    """Raises TypeError for what a sync app cannot run."""
    if isinstance(result, (CoroutineType, AsyncGeneratorType)):
        if isinstance(result, CoroutineType):
            result.close()
        raise TypeError(
            f"{function}() returned a {type(result).__name__} but is no async function: "
            "declare it with `async def`, also where a decorator wraps it"
        )
