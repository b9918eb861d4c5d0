"""An app's job done once, without warmd, in a process of its own: `python -m benchmarks.apponce JOB`.

JOB is JSON: `[module, class, [[function, input], ...]]`.  The app's class is the same that warmd runs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from importlib import import_module
from typing import Any


async def do(module: str, name: str, steps: list[tuple[str, dict[str, Any]]]) -> None:
    """Set the app up and call its functions, one after another."""
    app = getattr(import_module(module), name)()
    await _done(app.setup())
    for function, given in steps:
        await _done(getattr(app, function)(**given))
    if hasattr(app, "unload"):
        await _done(app.unload())


async def _done(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
    elif inspect.isgenerator(result):
        for _ in result:
            pass


if __name__ == "__main__":
    asyncio.run(do(*json.loads(sys.argv[1])))
