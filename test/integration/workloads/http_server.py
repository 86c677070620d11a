"""http_server.py HOST PORT [TOGETHER [UNIX-PATH]]: a small HTTP server for the workloads.

/bytes/N: N bytes of common.pattern; /together: answers when TOGETHER requests have come, all of them
at once; /echo (POST): the length and hash of what came. Also outside the container, on the far side.
"""
import hashlib
import http.server
import socket
import socketserver
import sys
import threading

import common


class Gathering:
    """Requests wait here for each other: answered at once, or not at all."""

    def __init__(self, size):
        self._size = size
        self._count = 0
        self._changed = threading.Condition()

    def join(self):
        """How many of its group had come when this one was let go."""
        with self._changed:
            self._count += 1
            turn = -(-self._count // self._size) * self._size
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._count >= turn, 30)
            return min(self._count, turn) - (turn - self._size)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/bytes/"):
            self._answer(common.pattern(int(self.path.split("/")[2].split("?")[0])))
        elif self.path.startswith("/together"):
            self._answer(b"%d\n" % self.server.gathering.join())
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(f"{len(body)} {hashlib.sha256(body).hexdigest()[:16]}".encode())

    def address_string(self):
        return "client"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 512
    daemon_threads = True


class Server6(Server):
    address_family = socket.AF_INET6


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    gathering = Gathering(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    servers = [Server6((host, port), Handler) if ":" in host else Server((host, port), Handler)]
    if len(sys.argv) > 4:
        servers.append(UnixServer(sys.argv[4], Handler))
    for server in servers[1:]:
        server.gathering = gathering
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].gathering = gathering
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
