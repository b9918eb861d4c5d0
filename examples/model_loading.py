"""Load a model once, use it many times.

python examples/model_loading.py
"""

from pathlib import Path

import warmd

APP = Path(__file__).parent / "apps" / "ml-inference"
SENTENCES = [
    "they have gone home because of the rain",
    "wir gehen nach hause, weil es regnet",
    "il est rentré à la maison parce qu'il pleut",
    "se van a casa porque está lloviendo",
]


def main() -> None:
    with warmd.Client() as client:
        result = client.run(
            {
                "app": APP,
                "input": {"action": "load_model", "model": "large-model-v2"},
                "session": "new",
                "session_timeout": 600,
            }
        )
        session_id = result.session_id
        print(f"loaded {result.output['model']} in {result.timing.total:.3f} s (session {session_id})")

        for item in SENTENCES:
            result = client.run(
                {"app": APP, "input": {"action": "predict", "data": item}, "session": session_id}
            )
            print(f"{result.output['language']}  {item}  ({result.timing.total * 1000:.1f} ms)")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
