"""Calls of a sync app: one after another, in the main thread, between blocking waits on the link."""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, TypeAlias

from warmd.app import Interrupted
from warmd.daemon.worker import output
from warmd.daemon.worker.runtime import Runtime
from warmd.daemon.worker.text import describe
from warmd.protocol.messages import NOTHING
from warmd.protocol.values import Unpackable, pack, unpack
from warmd.protocol.work import AskCancel, Finish, Invoke, MoreCredit, Raised, Returned, Yielded
from warmd.protocol.work import Interrupted as CutOff

Reply: TypeAlias = Returned | Raised | CutOff


def packed(runtime: Runtime, value: Any, name: str) -> bytes:
    """The body for what a function gave back.  Raises TypeError and ValueError."""
    try:
        body = pack(value, name)
    except Unpackable as error:
        raise TypeError(
            f"{error}; give back plain values: None, bool, numbers, text, bytes, lists, dicts, arrays"
        ) from None
    if len(body) > runtime.max_message_bytes:
        raise ValueError(
            f"the {name} has {len(body)} bytes packed, the limit is {runtime.max_message_bytes} "
            "(max_message_bytes): yield it in parts, or write it to a file and return the path"
        )
    return body


def arguments(runtime: Runtime, invoke: Invoke) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function of a call and what to give it.  Raises AttributeError, TypeError, ValueError."""
    plan = runtime.app.plan(invoke.function)
    args, kwargs = plan.arguments(unpack(invoke.input) if len(invoke.input) else None)
    return plan.function, args, kwargs


class Calls:
    """Serves a sync app."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._finish: Finish | None = None

    def serve(self) -> str:
        """Answers calls until the daemon says to finish; returns its reason."""
        receive, send = self._runtime.link.receive, self._runtime.link.send
        while self._finish is None:
            message = receive()
            if type(message) is Invoke:
                send(self._answer(message))
            elif type(message) is Finish:
                self._finish = message
            # A late MoreCredit or AskCancel meant a call that is over.  An idle worker must not
            # hold on to the input of its last call.
            del message
        return self._finish.reason

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
        runtime, credit, parts, last = self._runtime, invoke.window, 0, None
        try:
            for value in _guarded_values(runtime, generator):
                if runtime.asked_to_stop():
                    return CutOff(invoke.ordinal, runtime.seconds())
                if credit is None:
                    last = value
                    continue
                body = packed(runtime, value, f"part {parts}")
                credit = credit or self._more_credit(invoke)
                if not credit:
                    return CutOff(invoke.ordinal, runtime.seconds())
                runtime.link.send(Yielded(invoke.ordinal, parts, body))
                credit, parts = credit - 1, parts + 1
            body = packed(runtime, last, "result") if credit is None else NOTHING
            return Returned(invoke.ordinal, runtime.seconds(), parts, body)
        finally:
            self._close(generator)

    def _more_credit(self, invoke: Invoke) -> int:
        """Waits until the consumer asks for parts; 0 when it wants no more of them."""
        early: list[Invoke] = []
        try:
            while not self._runtime.asked_to_stop():
                message = self._runtime.link.receive()
                if type(message) is MoreCredit and message.ordinal == invoke.ordinal:
                    return message.parts
                if type(message) is AskCancel and message.ordinal == invoke.ordinal:
                    return 0
                if type(message) is Finish:
                    self._finish = message
                    return 0
                if type(message) is Invoke:
                    early.append(message)
            return 0
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
