"""A small web application that needs nothing but Python.

It does what a Flask or Django application does behind `flask run` or gunicorn: it listens on
127.0.0.1:$PORT, keeps connections alive, and finishes its requests when it is told to stop.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPLICA = os.environ.get("REPLICA", "app")
PORT = int(os.environ.get("PORT", "5000"))

# Kept in memory, so each replica counts for itself.
visits = 0
visits_lock = threading.Lock()


def home(request):
    global visits
    with visits_lock:
        visits += 1
        count = visits
    request.answer(200, {"replica": REPLICA, "visits": count})


def healthz(request):
    request.answer(200, {"ok": True})


def slow(request):
    time.sleep(1)
    request.answer(200, {"replica": REPLICA, "slept": 1})


def echo(request):
    length = int(request.headers.get("Content-Length") or 0)
    body = request.rfile.read(length).decode("utf-8", "replace")
    request.answer(200, {"replica": REPLICA, "body": body})


ROUTES = {
    ("GET", "/"): home,
    ("GET", "/healthz"): healthz,
    ("GET", "/slow"): slow,
    ("POST", "/echo"): echo,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections alive
    disable_nagle_algorithm = True  # head and body are two writes

    def handle_any(self):
        route = ROUTES.get((self.command, self.path.split("?")[0]))
        if route:
            route(self)
        else:
            # A body that nobody read would be taken for the next request.
            self.close_connection = True
            self.answer(404, {"error": f"there is no {self.command} {self.path}"})

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def answer(self, status, value):
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *values):
        if self.path != "/healthz":
            print(form % values)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main():
    server = Server(("127.0.0.1", PORT), Handler)
    # `shutdown` waits for the loop that the signal interrupts, hence the thread. By the time the
    # signal comes, the balancer sends nothing new here.
    stop = threading.Thread(target=server.shutdown)
    signal.signal(signal.SIGTERM, lambda *_: stop.start())
    server.serve_forever()


if __name__ == "__main__":
    main()
