"""Texts to vectors: in batches, the longest texts first, with word of how far it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from warmd.app import Interrupted, context
from warmd.apps.actions import Actions
from warmd.apps.embeddings.encoder import DTYPES, Encoder, numpy, torch
from warmd.apps.embeddings.folder import POOLINGS, checked_folder, read_recipe
from warmd.apps.options import configure, one_of, positive

DEFAULT_BATCH_SIZE = 32
_TELL_SECONDS = 0.2


class Embeddings(Actions):
    """A model of the sentence-transformers kind: `run({"texts": [...]})`, or `embed`.

    `setup` takes `{"model": folder, "device", "dtype", "threads", "batch_size", "max_tokens", "pooling",
    "normalize", "truncate"}`, each optional.
    """

    default_action = "embed"

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        configure(self._open, config)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        normalize: bool | None = None,
        truncate: bool | None = None,
        arrays: bool = True,
    ) -> Any:
        """The vectors of texts as float32, (texts, dimensions); of a text alone (dimensions,).

        Without `arrays` they are lists of numbers, for JSON.

        `normalize` gives all of them the length 1.  A text of more than `max_tokens` tokens is cut, which
        the session's log tells; without `truncate` it is refused with ValueError.  Both are by default as
        in `setup`.  Progress is told as `{"done", "total"}`, in texts.
        """
        many = [texts] if isinstance(texts, str) else _checked_texts(texts)
        vectors = self._vectors(
            many,
            self._normalize if normalize is None else normalize,
            self._truncate if truncate is None else truncate,
        )
        wanted = vectors[0] if isinstance(texts, str) else vectors
        return wanted if arrays else wanted.tolist()

    def similar(self, query: Any, texts: Any, *, top: int = 5) -> list[dict[str, Any]]:
        """The `top` texts that are nearest to the query in meaning, best first.

        Both may be texts or what `embed` gave for them.  Gives `[{"index", "score", "text"}, ...]`, with
        the cosine as `score` (1 at most), and no `text` where `texts` are vectors.
        """
        positive("top", top)
        if isinstance(query, str):
            query = [query]
        elif isinstance(query, numpy.ndarray) and query.ndim == 1:
            query = query[None]
        ours = self._unit_vectors(query, "query")
        theirs = self._unit_vectors(texts, "texts")
        if len(ours) != 1:
            raise ValueError(f"there are {len(ours)} queries, one a call is allowed")
        scores = theirs @ ours[0]
        best = numpy.argsort(-scores, kind="stable")[:top]
        found: list[dict[str, Any]] = [{"index": int(at), "score": float(scores[at])} for at in best]
        if not _are_vectors(texts):
            for one in found:
                one["text"] = str(texts[one["index"]])
        return found

    def info(self) -> dict[str, Any]:
        """The model and its settings; `cut_texts` is how many texts were cut so far."""
        encoder = self._encoder
        return {
            "model": str(encoder.folder),
            "dimensions": encoder.dimensions,
            "max_tokens": encoder.max_tokens,
            "pooling": encoder.pooling,
            "normalize": self._normalize,
            "truncate": self._truncate,
            "device": str(encoder.device),
            "dtype": self._dtype,
            "threads": torch.get_num_threads(),
            "batch_size": self._batch_size,
            "parameters": encoder.parameters,
            "cut_texts": self._cut_texts,
        }

    def on_cancel(self) -> None:
        """Leaves `embed` the time to end with its batch: it looks at `context.cancelled` itself."""

    def _open(
        self,
        model: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        threads: int = 1,
        batch_size: int = DEFAULT_BATCH_SIZE,
        max_tokens: int | None = None,
        pooling: str | None = None,
        normalize: bool = True,
        truncate: bool = True,
    ) -> None:
        self._dtype = one_of("dtype", dtype, DTYPES)
        self._batch_size = positive("batch_size", batch_size)
        self._normalize, self._truncate = normalize, truncate
        self._cut_texts = 0
        if max_tokens is not None:
            positive("max_tokens", max_tokens)
        if pooling is not None:
            one_of("pooling", pooling, POOLINGS)
        _use_threads(positive("threads", threads))
        folder = checked_folder(model)
        recipe = read_recipe(folder, pooling)
        self._encoder = Encoder(folder, recipe, device=device, dtype=dtype, max_tokens=max_tokens)

    def _vectors(self, texts: Sequence[str], normalize: bool, truncate: bool) -> Any:
        vectors = numpy.empty((len(texts), self._encoder.dimensions), numpy.float32)
        cut_texts = 0
        for batch in self._batches(texts):
            vectors[batch], cut = self._encoder.encode([texts[at] for at in batch], normalize=normalize)
            if cut and not truncate:
                raise ValueError(
                    f"texts[{batch[cut[0]]}] is longer than {self._encoder.max_tokens} tokens (max_tokens): "
                    "split it, or let it be cut with truncate=True"
                )
            cut_texts += len(cut)
        if cut_texts:
            self._cut_texts += cut_texts
            context.logger.warning(
                "%d of %d texts were cut after %d tokens", cut_texts, len(texts), self._encoder.max_tokens
            )
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The positions of texts of about one length, so that little is padded; the longest come first.

        Raises Interrupted between two of them once the call is cancelled.
        """
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        told = time.monotonic()
        for begin in range(0, len(order), self._batch_size):
            if context.cancelled:
                raise Interrupted(f"cancelled after {begin} of {len(order)} texts")
            if begin and time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                context.progress({"done": begin, "total": len(order)})
            yield order[begin : begin + self._batch_size]

    def _unit_vectors(self, given: Any, name: str) -> Any:
        """Normalized vectors of texts, or of an array of vectors."""
        if not _are_vectors(given):
            return self._vectors(_checked_texts(given), True, self._truncate)
        if given.ndim != 2 or given.shape[1] != self._encoder.dimensions:
            raise ValueError(
                f"{name} has the shape {given.shape}, vectors of this model have {self._encoder.dimensions} "
                "numbers"
            )
        lengths = numpy.linalg.norm(given, axis=1, keepdims=True)
        return given / numpy.maximum(lengths, numpy.finfo(numpy.float32).tiny)


def _are_vectors(given: Any) -> bool:
    return isinstance(given, numpy.ndarray) and given.dtype.kind == "f"


def _checked_texts(texts: Any) -> list[str]:
    if isinstance(texts, numpy.ndarray):
        texts = texts.tolist()
    if not isinstance(texts, (list, tuple)):
        raise TypeError(f"texts must be a text or a list of them, not {type(texts).__name__}")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{at}] must be a text, not {type(text).__name__} {str(text)[:40]!r}")
    return list(texts)


def _use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    # The tokenizer has a pool of its own, which it makes when it is first used.
    os.environ["RAYON_NUM_THREADS"] = str(threads)
