"""What the chat app is made of, without a model: options, the memory, tokens that become text."""

from __future__ import annotations

import pytest

from warmd.apps.chat.conversation import Conversation, ConversationFull, Window, parsed
from warmd.apps.generation.options import Options, checked_options
from warmd.apps.generation.text import Detokenizer, StopWatch

CONTEXT = 1000


# options


def test_what_is_not_given_has_its_default():
    assert checked_options({"seed": None, "stop": None}, CONTEXT) == Options(max_tokens=256)
    assert checked_options({}, 100).max_tokens == 50


def test_options_are_taken_as_they_are():
    given = {"max_tokens": 3, "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "seed": 2**32 - 1}
    checked = checked_options({**given, "stop": "end", "presence_penalty": -2}, CONTEXT)
    assert {name: getattr(checked, name) for name in given} == given
    assert (checked.stop, checked.presence_penalty) == (("end",), -2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"temperature": -0.1}, "temperature is -0.1, allowed are 0 to 5"),
        ({"temperature": "hot"}, "temperature is 'hot', it must be a number from 0 to 5"),
        ({"temperature": float("nan")}, "temperature is 'nan', it must be a number"),
        ({"temperature": True}, "temperature is 'True', it must be a number"),
        ({"top_p": 1.1}, "top_p is 1.1, allowed are 0 to 1"),
        ({"top_k": -1}, "top_k is -1, allowed are 0 to"),
        ({"seed": 2**32}, "seed is 4294967296, allowed are 0 to 4294967295"),
        ({"seed": 1.0}, "seed is '1.0', it must be a whole number"),
        ({"max_tokens": 0}, "max_tokens is 0, allowed are 1 to 999: a larger 'context'"),
        ({"max_tokens": True}, "max_tokens is 'True', it must be a whole number"),
        ({"stop": ""}, "stop is '', it must be a text or a list of texts, none empty"),
        ({"stop": ["a", 3]}, "none empty"),
        ({"stop": ["a"] * 17}, "stop has 17 texts, allowed are 16"),
        ({"repeat_penalty": 0}, "repeat_penalty is 0, allowed are 0.1 to 10"),
    ],
)
def test_options_out_of_range_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        checked_options(given, CONTEXT)


def test_an_unknown_option_is_refused_with_what_it_may_have_meant():
    with pytest.raises(TypeError, match="unknown option 'max_token': did you mean 'max_tokens'"):
        checked_options({"max_token": 3}, CONTEXT)
    with pytest.raises(TypeError, match="unknown option 'zzz': there are frequency_penalty, max_tokens"):
        checked_options({"zzz": 3}, CONTEXT)


# the memory


def talk(turns: int, tokens: int = 100, **window) -> Conversation:
    made = Conversation("Be brief.", Window(**window))
    for number in range(turns):
        made.remember([user(f"question {number}")], f"answer {number}", (number + 1) * tokens)
    return made


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_half_of_a_full_context_is_emptied():
    made = talk(8)
    made.make_room([user("x" * 30)], 150, CONTEXT)
    assert (made.forgotten, made.used_tokens) == (0, 800)
    made.make_room([user("x" * 300)], 150, CONTEXT)
    assert made.used_tokens + 104 <= 850 / 2
    assert (made.kept, made.forgotten) == (3, 5)
    assert made.messages()[1] == user("question 5")
    assert made.messages(whole=True)[1] == user("question 0")


def test_one_turn_at_most_is_no_memory():
    made = talk(1, max_turns=1)
    made.make_room([user("x")], 1, CONTEXT)
    assert made.kept == 0


def test_a_copy_is_another_conversation():
    made = talk(2)
    copy = made.copy()
    copy.remember([user("more")], "answer", 300)
    copy.forget_oldest()
    assert (made.kept, made.used_tokens, copy.kept, copy.forgotten) == (2, 200, 2, 1)


def test_a_window_that_refuses_forgets_nothing():
    made = talk(8, policy="refuse", max_turns=9)
    made.make_room([user("x" * 3000)], 500, CONTEXT)
    assert made.forgotten == 0
    made.remember([user("more")], "answer", 900)
    with pytest.raises(ConversationFull, match="the conversation has its 9 turns"):
        made.make_room([user("x")], 1, CONTEXT)


def test_a_conversation_that_goes_on_keeps_its_counts_and_what_it_lost():
    made = talk(4)
    made.forget_oldest()
    _, turns, _ = parsed([*made.messages(whole=True)[1:], user("more")])
    after = made.continued_as("Be brief.", turns)
    assert (after.forgotten, after.used_tokens, after.turns) == (1, 300, made.turns)
    assert made.continued_as("Be long.", turns).forgotten == 0
    shorter = made.continued_as("Be brief.", turns[:1])
    assert (shorter.forgotten, shorter.used_tokens) == (1, 0)
    assert made.continued_as("Be brief.", []).forgotten == 0


def test_messages_may_have_no_system_and_several_in_a_row():
    system, turns, asked = parsed(
        [user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d"), user("e")]
    )
    assert system == ""
    assert [len(turn.messages) for turn in turns] == [3]
    assert asked == [user("d"), user("e")]
    assert Conversation(system, Window(), turns).messages() == [*turns[0].messages]


def test_an_answer_may_be_empty():
    _, turns, _ = parsed([user("a"), {"role": "assistant", "content": ""}, user("b")])
    assert turns[0].messages[1]["content"] == ""


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ("hello", "messages must be a list of messages, not 'hello'"),
        ([], "messages must be a list"),
        ([3], r"messages\[0\] must be a dict with 'role' and 'content', not '3'"),
        ([{"role": "user"}], r"messages\[0\] must be a dict"),
        ([{"role": "tool", "content": "x"}], r"messages\[0\] has the role 'tool': allowed are system, user"),
        ([user("x"), {"role": "system", "content": "x"}], r"messages\[1\] is of the system: only the first"),
        ([user("x"), {"role": "assistant", "content": "x"}], "the last of the messages must be the user's"),
        ([{"role": "system", "content": "x"}], "the last of the messages must be the user's"),
        ([user("")], r"the content of messages\[0\] must be text, not nothing"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "must be text, not"),
    ],
)
def test_messages_that_cannot_be_answered_are_named(messages, text):
    with pytest.raises(ValueError, match=text):
        parsed(messages)


# tokens that become text


def test_no_character_is_cut():
    text = "Schöne 雪🎿!"
    said = Detokenizer(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    pieces = [said.add(byte) for byte in text.encode()]
    assert [piece for piece in pieces if piece] == list(text)
    assert said.rest() == ""


def test_a_character_that_is_never_complete_is_left_out():
    said = Detokenizer(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    assert "".join(said.add(byte) for byte in "ab雪".encode()[:-1]) + said.rest() == "ab"


def test_a_space_that_a_decoder_drops_at_the_beginning_stays_within():
    words = ["_one", "_two", "_three"]
    said = Detokenizer(lambda tokens: "".join(words[n] for n in tokens).replace("_", " ").lstrip())
    assert "".join(said.add(n) for n in range(3)) == "one two three"


@pytest.mark.parametrize(
    ("pieces", "stops", "said", "stopped"),
    [
        (["one ", "two ", "three"], ["two"], "one ", True),
        (["one t", "w", "o three"], ["two"], "one ", True),
        (["one t", "w", "elve"], ["two"], "one twelve", False),
        (["aaa", "ab"], ["aab"], "aa", True),
        (["one two"], ["two", "one"], "", True),
        (["end", "\n", "\n"], ["\n\n"], "end", True),
        (["wai", "t fo", "r"], ["for it", "wait not"], "wait for", False),
        (["a", "b"], [], "ab", False),
    ],
)
def test_nothing_of_a_stop_string_gets_out(pieces, stops, said, stopped):
    watch = StopWatch(stops)
    out = ""
    for piece in pieces:
        out += watch.add(piece)
        if watch.stopped:
            break
    assert (out + watch.rest(), watch.stopped) == (said, stopped)
