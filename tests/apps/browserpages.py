"""A server of small pages for the browser's tests; it prints its port, and ends with its input."""

from __future__ import annotations

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {
    "/": "<title>Home</title><a id=login-btn href=/login>Log in</a><p id=hidden style='display:none'>x</p>",
    "/login": """<title>Log in</title><form action=/welcome><input id=username name=user>
        <select id=role name=role><option value=a>Admin<option value=u selected>User</select>
        <button id=send>Send</button><button id=off disabled>Off</button></form>
        <button id=under>Under</button><div id=over style='position:fixed;inset:0;display:none'></div>""",
    "/welcome": "<title>Welcome</title><h1>Hello</h1><p>second</p>",
    "/dialogs": """<title>Dialogs</title><button id=ask onclick="
        alert('careful'); document.title = confirm('sure?') + ' ' + prompt('name?', 'Ada')">Ask</button>""",
    "/stay": "<title>Stay</title><button id=b>b</button><script>onbeforeunload = () => 'stay'</script>",
    "/popup": "<title>Popup</title><button id=open onclick=\"window.open('/welcome')\">Open</button>",
    "/files": "<title>Files</title><a id=get href=/download>Get</a>",
    "/later": """<title>Later</title><script>clicks = 0;
        setTimeout(() => document.body.innerHTML = '<button id=late onclick=clicks++>Late</button>', 1000)
        </script>""",
    "/busy": """<title>Busy</title><button id=spin onclick='while (1);'>Spin</button>
        <button id=work onclick='setTimeout(() => { const until = Date.now() + 2500;
        while (Date.now() < until); document.body.innerHTML = "<p id=done>done</p>" }, 50)'>Work</button>""",
    "/quiet": "<title>Quiet</title>nothing moves here",
    "/agent": "<title>Agent</title><script>document.title = navigator.userAgent</script>",
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/never":
            time.sleep(60)
        self.send_response(200 if path in PAGES or path == "/download" else 404)
        if path == "/download":
            self.send_header("Content-Disposition", "attachment; filename=report.csv")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "seen=yes; Path=/")
        self.end_headers()
        self.wfile.write(b"a,b\n1,2\n" if path == "/download" else PAGES.get(path, "").encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
