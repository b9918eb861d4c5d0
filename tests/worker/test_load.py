from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from warmd.daemon.worker.load import App, find_class, public_functions
from warmd.daemon.worker.unfit import Unfit


class Base:
    def inherited(self) -> None: ...

    def run(self) -> None: ...


class Many(Base):
    number = 1
    run = None  # type: ignore[assignment]

    class Inner: ...

    def setup(self) -> None: ...
    def unload(self) -> None: ...
    def on_cancel(self) -> None: ...
    def _private(self) -> None: ...
    def __call__(self) -> None: ...

    @property
    def prop(self) -> Any:
        raise AssertionError("looked at")

    @functools.cached_property
    def cached(self) -> Any:
        raise AssertionError("looked at")

    @staticmethod
    def static() -> None: ...

    @classmethod
    def klass(cls) -> None: ...

    lam = lambda _: 1  # noqa: E731


def test_public_functions() -> None:
    assert public_functions(Many) == ["inherited", "klass", "lam", "static"]


def test_an_app_is_async_when_anything_of_it_is() -> None:
    class Hook:
        async def unload(self) -> None: ...

        def run(self) -> None: ...

    class Stream:
        async def parts(self) -> Any:
            yield 1

    class Private:
        async def _helper(self) -> None: ...

        def run(self) -> None:
            asyncio.run(self._helper())

    assert App(Hook, "hook").is_async
    assert App(Stream, "stream").is_async
    assert not App(Private, "private").is_async


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ("no_such_module:App", ModuleNotFoundError, "No module named 'no_such_module'"),
        ("tests.zoo:God", ImportError, r"zoo.py has no class 'God': did you mean 'Good'\?"),
        ("tests.zoo:Good.Iner", ImportError, r"has no class 'Good.Iner': did you mean 'Inner'\?"),
        ("tests.zoo:not_a_class", TypeError, "tests.zoo:not_a_class is a function, not a class"),
        ("tests.zoo", ImportError, "not of the form module:Class"),
    ],
)
def test_a_wrong_target_says_what_is_wrong(target: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        find_class(target)


def test_dotted_classes_are_found() -> None:
    assert find_class("tests.zoo:Good.Inner").__qualname__ == "Good.Inner"


def test_an_unknown_function_gets_a_suggestion() -> None:
    app = App(Many, "many")
    app.make()
    with pytest.raises(Unfit, match=r"app many has no function 'statik': did you mean 'static'\?"):
        app.plan("statik")
    with pytest.raises(Unfit, match="no function '_private'"):
        app.plan("_private")
