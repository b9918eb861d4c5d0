"""The files that `warmd app new` writes."""

from __future__ import annotations

EXAMPLE_TEXT = "to be or not to be"

APP = '''\
"""An app of warmd: any class.  Nothing of warmd need be imported."""

from collections import Counter
from collections.abc import Iterator


class App:
    """Counts the words of all texts that a session is given."""

    def setup(self, ignore: list[str] | None = None, lower: bool = True) -> None:
        """Once per session, before its first call.

        What takes long to get belongs here: a model, a connection, a browser.  What is kept in
        `self` is warm for all calls of the session.
        """
        self.ignore = set(ignore or [])
        self.lower = lower
        self.counts: Counter[str] = Counter()
{functions}
    def reset(self) -> int:
        """Forgets all words; returns how many different ones there were."""
        different = len(self.counts)
        self.counts.clear()
        return different
'''

PLAIN = '''
    def run(self, text: str = "{example}", top: int = 3) -> dict[str, int]:
        """Counts the words of a text; returns the most frequent ones of all texts so far.

        text: what to count
        top: how many words to return
        """
        self.counts.update(self.words(text))
        return dict(self.counts.most_common(top))

    def words(self, text: str = "{example}") -> Iterator[str]:
        """Yields the words that count.  A generator streams: its caller has each value at once."""
        for word in (text.lower() if self.lower else text).split():
            if word not in self.ignore:
                yield word
'''

STREAMING = '''
    def run(self, text: str = "{example}") -> Iterator[dict[str, int]]:
        """Yields each word with its number so far.  A generator streams: its caller has each at once.

        text: what to count
        """
        for word in (text.lower() if self.lower else text).split():
            if word not in self.ignore:
                self.counts[word] += 1
                yield {{word: self.counts[word]}}

    def most(self, top: int = 3) -> dict[str, int]:
        """Returns the most frequent words of all texts so far."""
        return dict(self.counts.most_common(top))
'''

TEST = '''\
"""Run with `python -m pytest`: the class by itself, and as an app in a daemon of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import warmd
from app import App

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as found:
        yield found

'''

TEST_PLAIN = '''
def test_the_class_by_itself() -> None:
    app = App()
    app.setup(ignore=["the"])
    assert app.run("the cat and the Dog and the bird", top=1) == {"and": 2}
    assert list(app.words("The cat")) == ["cat"]
    assert app.reset() == 4


def test_a_session_remembers(client: warmd.Client) -> None:
    with client.session(FOLDER, setup={"ignore": ["the"]}) as session:
        assert session.run({"text": "the cat"}).output == {"cat": 1}
        assert session.run({"text": "the Cat", "top": 1}).output == {"cat": 2}
        assert session.call("reset").output == 1


def test_words_stream(client: warmd.Client) -> None:
    with client.session(FOLDER) as session:
        assert list(session.stream("words", {"text": "One two"})) == ["one", "two"]
'''

TEST_STREAMING = '''
def test_the_class_by_itself() -> None:
    app = App()
    app.setup(ignore=["the"])
    assert list(app.run("the cat and the Cat")) == [{"cat": 1}, {"and": 1}, {"cat": 2}]
    assert app.most(1) == {"cat": 2}
    assert app.reset() == 2


def test_a_session_remembers(client: warmd.Client) -> None:
    with client.session(FOLDER, setup={"ignore": ["the"]}) as session:
        assert list(session.stream(input={"text": "the cat"})) == [{"cat": 1}]
        assert session.run({"text": "the Cat"}).output == {"cat": 2}
        assert session.call("most", {"top": 1}).output == {"cat": 2}
'''

MANIFEST = """\
# What warmd should know of this app.  Every line may be left out.

entry = "app:App"                 # module:Class
# default_function = "run"        # what a call means that names no function
reload = true                     # sessions that live take over the functions that you edit

# Which Python runs it, if not the one that warmd itself runs in:
# python = ".venv/bin/python"     # one that has what the app imports
# requirements = ["numpy"]        # or: warmd makes an environment with these; also "requirements.txt"
# paths = ["src"]                 # folders to import from, besides this one

# session_timeout = "5m"          # a session that nobody calls ends after this
# start_timeout = "10m"           # the most that import and `setup` may take
# memory = "2GiB"                 # the most that a session may use
# spares = 1                      # sessions that are ready before anybody asks
# gpu = "20GB"                    # of a GPU's memory, for each session; or 1, 0.5, "none", [0]
# park = "never"                  # it stays on its GPU while it is idle, whoever needs the room

# [env]                           # variables of its processes
# HF_HOME = "/data/models"
"""

README = """\
# {name}
Counts the words of all texts that a session is given; an app of warmd.
`warmd run ./{name} --help-app` says what it takes, `warmd app test ./{name}` tries it, and \
`python -m pytest {name}` tests it.
"""

IGNORED = """\
__pycache__/
.pytest_cache/
.venv/
"""


def files(name: str, *, streams: bool) -> dict[str, str]:
    """The texts of a new app's files, by their names.  With `streams` its `run` is a generator."""
    functions = (STREAMING if streams else PLAIN).format(example=EXAMPLE_TEXT)
    return {
        "app.py": APP.format(functions=functions),
        "app.toml": MANIFEST,
        "test_app.py": TEST + (TEST_STREAMING if streams else TEST_PLAIN),
        "README.md": README.format(name=name),
        ".gitignore": IGNORED,
    }
