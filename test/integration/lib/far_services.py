"""far_services.py READY ZONE ROOT CERTIFICATE KEY: what programs find on the far side, on every address:
DNS (port 53, udp and tcp) from the zone file (JSON: name -> addresses), echo (7, udp and tcp), HTTP
(80) and HTTPS (443).

/bytes/N: N bytes; /slow/N: the same with pauses; /git/...: git-http-backend(1) on ROOT/git; anything
else is a file below ROOT. POST /echo answers with the length of what came.
"""
import http.server
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time

_A, _PTR, _AAAA = 1, 12, 28
_NXDOMAIN = 3


def _encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _reverse(address):
    if ":" in address:
        digits = socket.inet_pton(socket.AF_INET6, address).hex()
        return ".".join(reversed(digits)) + ".ip6.arpa"
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


class Zone:
    def __init__(self, path):
        with open(path, encoding="ascii") as text:
            self._names = json.load(text)
        self._pointers = {_reverse(address): name for name, addresses in self._names.items()
                          for address in addresses}

    def answer(self, query):
        """The answer to one message (RFC 1035), without compression but for the name asked."""
        number, flags, questions = struct.unpack(">HHH", query[:6])
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("ascii").lower())
            at += 1 + query[at]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        name = ".".join(labels)
        records = []
        if kind == _PTR and name in self._pointers:
            records.append(_encode_name(self._pointers[name]))
        for address in self._names.get(name, ()):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            if kind == (_AAAA if ":" in address else _A):
                records.append(socket.inet_pton(family, address))
        known = name in self._names or name in self._pointers
        head = struct.pack(">HHHHHH", number, 0x8180 | flags & 0x0100 | (0 if known else _NXDOMAIN),
                           questions, len(records), 0, 0)
        return head + query[12:at + 5] + b"".join(
            struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(data)) + data for data in records)


class DnsOverTcp(socketserver.BaseRequestHandler):
    def handle(self):
        while len(head := self.request.recv(2, socket.MSG_WAITALL)) == 2:
            query = self.request.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
            answer = self.server.zone.answer(query)
            self.request.sendall(struct.pack(">H", len(answer)) + answer)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


def bound_datagrams(family, host, port):
    """A socket that tells which address a datagram was for."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO
        sock.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
    else:
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.bind((host, port))
    return sock


def answer_datagrams(sock, answer):
    """Answers leave from the address that was asked."""
    while True:
        data, ancillary, _, peer = sock.recvmsg(65536, 256)
        try:
            reply = answer(data)
        except (IndexError, ValueError, struct.error):
            continue
        source = []
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP:
                source = [(level, kind, struct.pack("I4s4s", 0, value[8:12], bytes(4)))]
            else:
                source = [(level, kind, value[:16] + bytes(4))]
        sock.sendmsg([reply], source, 0, peer)


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def end_headers(self):
        # HTTP/3 is to be had, as a browser is told (RFC 7838); nobody is there to speak it.
        self.send_header("Alt-Svc", 'h3=":443"; ma=3600')
        super().end_headers()

    def _answer(self, body, status=200, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _git(self, body):
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent",
            "GIT_PROJECT_ROOT": os.path.join(self.directory, "git"), "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*", "REQUEST_METHOD": self.command,
            "PATH_INFO": path.removeprefix("/git"), "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        done = subprocess.run(["/usr/lib/git-core/git-http-backend"], input=body, env=environment,
                              stdout=subprocess.PIPE, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in fields if name == "Status"), 200)
        self._answer(content, status, [field for field in fields if field[0] != "Status"])

    def do_GET(self):
        if self.path.startswith("/bytes/"):
            size = int(self.path.split("/")[2].partition("?")[0])
            self._answer((b"0123456789abcdef" * (size // 16 + 1))[:size])
        elif self.path.startswith("/slow/"):
            time.sleep(0.5)
            self._answer(b"s" * int(self.path.split("/")[2]))
        elif self.path.startswith("/git/"):
            self._git(b"")
        else:
            super().do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/git/"):
            self._git(body)
        else:
            self._answer(b"%d\n" % len(body))

    def log_message(self, *_):
        pass


def _server(base, family):
    class Server(socketserver.ThreadingMixIn, base):
        address_family = family
        request_queue_size = 1024
        daemon_threads = True
        allow_reuse_address = True

        def server_bind(self):
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            socketserver.TCPServer.server_bind(self)

        def handle_error(self, *_):
            pass  # Whoever has gone has gone.

    return Server


class _Tls:
    """The handshake belongs to the connection's own thread."""

    def finish_request(self, request, client_address):
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)
            secure.unwrap()


def main():
    ready, zone_path, root, certificate, key = sys.argv[1:]
    zone = Zone(zone_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def handler(*args):
        return Handler(*args, directory=root)

    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for port, answer in ((53, zone.answer), (7, lambda data: data)):
            threading.Thread(target=answer_datagrams, daemon=True,
                             args=(bound_datagrams(family, host, port), answer)).start()
        plain = _server(socketserver.TCPServer, family)
        secure = type("Secure", (_Tls, plain), {"context": context})
        servers = [plain((host, 53), DnsOverTcp), plain((host, 7), Echo),
                   plain((host, 80), handler), secure((host, 443), handler)]
        for server in servers:
            server.zone = zone
            threading.Thread(target=server.serve_forever, daemon=True).start()
    with open(ready, "w", encoding="ascii"):
        pass
    threading.Event().wait()


if __name__ == "__main__":
    main()
