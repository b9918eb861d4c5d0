"""A browser that stays open: each step of a login is one quick call.

python examples/python/browser.py
"""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import warmd

HOME = "<title>Home</title><a id=login-btn href=/login>Log in</a>"
LOGIN = "<title>Log in</title><form><input id=username name=username><button>Go on</button></form>"


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((LOGIN if self.path.startswith("/login") else HOME).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """A small web site on this machine, and its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def main() -> None:
    with warmd.Client() as client, site() as address:
        began = time.monotonic()
        result = client.run(
            app="browser-automation",
            input={"action": "start", "url": address},
            session="new",
            session_timeout=300,
        )
        session_id = result.session_id
        print(f"start: {result.output['title']!r} after {time.monotonic() - began:.2f} s")

        for step in [
            {"action": "click", "selector": "#login-btn"},
            {"action": "type", "selector": "#username", "text": "user@example.com"},
            {"action": "press", "key": "Enter"},
            {"action": "wait_for", "url": "**/login?username=*"},
        ]:
            result = client.run(app="browser-automation", input=step, session=session_id)
            print(f"{step['action']}: after {result.timing.total:.3f} s")
        print(f"now at {result.output['url']}")

        shot = client.run(app="browser-automation", input={"action": "screenshot"}, session=session_id)
        picture = shot.output["screenshot"]
        print(f"screenshot: a PNG of {len(picture)} bytes after {shot.timing.total:.3f} s")

        client.sessions.end(session_id)


if __name__ == "__main__":
    main()
