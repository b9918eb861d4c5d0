"""Requests for logs: streams with credit, bounded in number, that wait for who does not read."""

from unittest.mock import Mock

import pytest

from tests.daemon.logreader import close, serve
from tests.daemon.test_control import CLIENT, ID, NOW, OTHER, A, B, World
from warmd.daemon import descriptors, logreaders, logstreams
from warmd.daemon.logfile import CHUNK_BYTES
from warmd.protocol import values
from warmd.protocol.messages import Part, Request, Result
from warmd.protocol.values import unpack


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.logs.close()


def write_log(world, data):
    path = world.logs.open_session(A)
    with open(path, "ab") as file:
        file.write(data)
    return path


def test_logs_as_they_are(world):
    write_log(world, b"one\ntwo\n")
    assert values.unpack(world.ask("logs", 1, session=A, tail=1)[0].value) == b"two\n"
    first, last = world.ask("logs", 5, session=A)
    assert (type(first), values.unpack(first.value), first.number) == (Part, b"one\ntwo\n", 0)
    assert (type(last), last.parts) == (Result, 1)
    assert not world.control.log_streams.owns(CLIENT, ID)


def test_a_log_that_cannot_be_read_any_further_is_told(world, monkeypatch):
    write_log(world, b"one\n")
    monkeypatch.setattr(logreaders, "read_at", Mock(side_effect=OSError("disk")))
    (failure,) = world.ask("logs", 5, session=A)
    assert (failure.code, "disk" in failure.message) == ("INTERNAL", True)
    assert not world.control.log_streams.owns(CLIENT, ID)


@pytest.mark.parametrize(("window", "text"), [(None, "give the request a window"), (-1, "max_stream_window")])
def test_logs_without_a_sound_window_are_refused(world, window, text):
    write_log(world, b"x")
    failure = world.failure("logs", window, session=A)
    assert failure.code == "INVALID" and text in failure.message
    assert "10000" in world.failure("logs", 10_001, session=A).message


def test_streams_of_logs_are_bounded_for_each_client_and_in_all(world, monkeypatch):
    write_log(world, b"x")
    monkeypatch.setattr(logstreams, "MAX_STREAMS_OF_CLIENT", 2)
    monkeypatch.setattr(logstreams, "MAX_STREAMS", 3)

    def refusal_of(client, number):
        world.sent.clear()
        id = bytes([number]) * 16
        world.control.handle(client, Request(id, "logs", {"session": A, "follow": True}, 0), NOW)
        return world.sent[-1][1] if world.sent else None

    assert [refusal_of(CLIENT, number) for number in (1, 2)] == [None, None]
    refused = refusal_of(CLIENT, 3)
    assert (refused.code, refused.ran, refused.details) == ("QUEUE_FULL", "no", {"limit": 2})
    assert "this client has 2 streams" in refused.message and "close it" in refused.message
    assert refusal_of(CLIENT, 1).code == "INVALID", "the id is in use"
    assert refusal_of(OTHER, 1) is None
    refused = refusal_of(OTHER, 2)
    assert refused.details == {"limit": 3} and "all clients together" in refused.message
    world.control.log_streams.client_gone(CLIENT)
    assert refusal_of(OTHER, 2) is None


def test_no_log_is_opened_where_descriptors_are_short(world, monkeypatch):
    write_log(world, b"one\n")
    world.logs.close_session(A)
    monkeypatch.setattr(descriptors, "mark", lambda: 0)
    failure = world.failure("logs", 5, session=A)
    assert failure.code == "QUEUE_FULL" and "ulimit -n" in failure.message


def test_who_does_not_read_gets_no_log_at_all(world):
    write_log(world, b"one\n")
    world.control.log_streams.pause(CLIENT, True)
    assert world.ask("logs", 5, session=A) == []
    world.control.log_streams.pause(CLIENT, False)
    serve(world.logs)
    assert [type(message) for _, message in world.sent] == [Part, Result]


def test_followed_logs_wait_while_the_client_does_not_read(world):
    path = world.logs.open_session(A)
    world.ask("logs", 9, session=A, follow=True)
    world.control.log_streams.pause(CLIENT, True)
    with open(path, "ab") as file:
        file.write(b"one\n")
    close(world.logs, A)
    assert world.sent == []
    world.control.log_streams.pause(CLIENT, False)
    serve(world.logs)
    part, result = (message for _, message in world.sent)
    assert values.unpack(part.value) == b"one\n" and result.parts == 1


def test_logs_of_a_session_that_is_gone_and_pruned(world):
    failure = world.failure("logs", 1, session=B)
    assert "no longer kept" in failure.message
    assert failure.session == B


def test_followed_logs_wait_for_credit_and_end_with_the_session(world):
    write_log(world, b"x" * (CHUNK_BYTES + 5))
    (part,) = world.ask("logs", 1, session=A, follow=True)
    assert len(values.unpack(part.value)) == CHUNK_BYTES
    assert world.control.log_streams.owns(CLIENT, ID)
    assert not world.control.log_streams.owns(OTHER, ID)
    world.control.log_streams.credit(OTHER, ID, 5)
    assert len(world.sent) == 1
    world.control.log_streams.credit(CLIENT, ID, 5)
    serve(world.logs)
    assert [message.number for _, message in world.sent] == [0, 1]
    close(world.logs, A)
    assert world.sent[-1][1] == Result(ID, None, 2)
    assert not world.control.log_streams.owns(CLIENT, ID)


def test_a_follower_that_is_to_finish_ends_with_what_is_written_by_then(world):
    path = write_log(world, b"x\n")
    world.ask("logs", 1, session=A, follow=True)
    with open(path, "ab") as file:
        file.write(b"more\n")
    world.control.log_streams.cancel(CLIENT, ID, "finish")
    world.control.log_streams.credit(CLIENT, ID, 5)
    serve(world.logs)
    *parts, last = [message for _, message in world.sent]
    assert b"".join(map(bytes, (unpack(part.value) for part in parts))) == b"x\nmore\n"
    assert last == Result(ID, None, len(parts))
    assert not world.control.log_streams.owns(CLIENT, ID)


def test_an_abandoned_follower_is_told_and_forgotten(world):
    path = write_log(world, b"x\n")
    world.ask("logs", 9, session=A, follow=True)
    world.control.log_streams.cancel(CLIENT, ID, "abandon")
    assert world.sent[-1][1].code == "CANCELLED"
    count = len(world.sent)
    world.control.log_streams.cancel(CLIENT, ID, "abandon")
    with open(path, "ab") as file:
        file.write(b"more\n")
    close(world.logs, A)
    assert len(world.sent) == count


def test_a_gone_client_is_forgotten(world):
    write_log(world, b"x\n")
    world.ask("logs", 9, session=A, follow=True)
    world.control.log_streams.client_gone(OTHER)
    assert world.control.log_streams.owns(CLIENT, ID)
    world.control.log_streams.client_gone(CLIENT)
    assert not world.control.log_streams.owns(CLIENT, ID)
    count = len(world.sent)
    close(world.logs, A)
    assert len(world.sent) == count
