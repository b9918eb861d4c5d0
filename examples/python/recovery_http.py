"""The session manager over HTTP, with inference.sh's client: the machine that asks needs no warmd.

pip install inferencesh
export WARMD_KEY=$(warmd http keys add python)      # where the gateway is: `warmd http`
python examples/python/recovery_http.py
"""

import os
import time
from typing import Any

from inferencesh import APIError, Inference, inference

WAIT_SECONDS = 10


class SessionManager:
    """Runs calls in one session of an app, and in a new one when that is gone.

    A call under which the session's process died is repeated too, though it may have run in part;
    `warmd.SessionManager` repeats only what has not run.
    """

    def __init__(self, client: Inference, app: str, timeout: int = 300) -> None:
        self.client, self.app, self.timeout = client, app, timeout
        self.session_id: str | None = None

    def ensure_session(self) -> str:
        if self.session_id is None:
            opening = {"session": "new", "session_timeout": self.timeout}
            result = self.client.run({"app": self.app, "input": {"action": "init"}, **opening})
            self.session_id = result["session_id"]
        return self.session_id

    def run(self, input: Any) -> Any:
        try:
            return self.client.run({"app": self.app, "input": input, "session": self.ensure_session()})
        except (APIError, RuntimeError) as error:
            if "session" not in str(error).lower():
                raise
            self.session_id = None
        return self.client.run({"app": self.app, "input": input, "session": self.ensure_session()})


def await_expiry(client: Inference, session_id: str) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while client.sessions.get(session_id)["status"] != "expired":
        if time.monotonic() > until:
            raise TimeoutError(f"{session_id} has not expired within {WAIT_SECONDS} s")
        time.sleep(0.1)


def main() -> None:
    url = os.environ.get("WARMD_URL", "http://127.0.0.1:8470")
    client = inference(api_key=os.environ["WARMD_KEY"], base_url=url)
    manager = SessionManager(client, "counter", timeout=1)

    first = manager.run({"action": "process"})
    print(f"session {first['session_id']}: {first['output']['n']}")

    client.sessions.end(first["session_id"])
    second = manager.run({"action": "process"})
    print(f"session {second['session_id']}: {second['output']['n']}, after the first was ended")

    await_expiry(client, second["session_id"])
    third = manager.run({"action": "process"})
    print(f"session {third['session_id']}: {third['output']['n']}, after the second has expired")

    client.sessions.end(third["session_id"])


if __name__ == "__main__":
    main()
