"""A description of an app as the daemon tells it, for tests without one."""

from __future__ import annotations

from typing import Any

WORDS: dict[str, Any] = {
    "app": "/apps/words",
    "doc": "Counts words.\n\nRemembers them too.",
    "default_function": "run",
    "found": {
        "target": "app:App",
        "paths": ["/apps/words"],
        "python": None,
        "requirements": ["numpy", "regex>1"],
        "env": ["TOKEN"],
        "default_function": None,
        "reload": True,
        "asks": {"idle_seconds": 300.0, "memory_bytes": None, "spares": 0},
    },
    "functions": [
        {
            "name": "run",
            "doc": "Adds a text.",
            "streams": False,
            "async": False,
            "input_schema": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "What to count. " * 8},
                    "top": {"type": "integer", "default": 3, "minimum": 1},
                    "size": {"$ref": "#/$defs/Size"},
                },
                "required": ["text"],
                "$defs": {"Size": {"type": "object", "properties": {"width": {"type": "integer"}}}},
            },
            "output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
        },
        {
            "name": "words",
            "doc": "",
            "streams": True,
            "async": True,
            "input_schema": {"type": "string"},
            "output_schema": {"type": "string"},
        },
        {
            "name": "reset",
            "doc": "",
            "streams": False,
            "async": False,
            "input_schema": {"type": "object", "properties": {}},
            "output_schema": None,
        },
    ],
    "setup_schema": {"type": "object", "properties": {"lower": {"type": "boolean", "default": True}}},
}
