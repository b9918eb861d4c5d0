"""A session that is gone is replaced: once, and only where nothing ran.

python examples/python/recovery.py
"""

import warmd


def main() -> None:
    with warmd.Client() as client:
        manager = warmd.SessionManager(client, "counter", timeout=600, init={"action": "init"})
        first = manager.run({"action": "process"})
        print(f"session {first.session_id}: {first.output['n']}")

        client.sessions.end(first.session_id)  # an idle timeout does the same

        # By hand: a session that is gone is an error of its own kind, and nothing ran.
        try:
            client.run(app="counter", session=first.session_id)
        except warmd.NoSession as error:
            print(f"{error.code}: ran = {error.ran}")

        # The manager opens a new one, runs `init` in it first, and repeats the call.
        second = manager.run({"action": "process"})
        print(f"session {second.session_id}: {second.output['n']}")

        client.sessions.end(second.session_id)


if __name__ == "__main__":
    main()
