"""bad_proxy.py READY HOST PORT BEHAVIOUR...: proxies that misbehave, each on a port of its own from PORT
on. A behaviour is a name of BEHAVIOURS, or "reply-N": SOCKS5 that answers each request with code N."""
import random
import socket
import sys
import threading
import time

_SECONDS = 60  # more than anybody waits
_ADDRESS = b"\x00\x01\x00\x00\x00\x00\x00\x00"


def greet(sock):
    """Takes what is offered, and whatever user and password: until the request has come."""
    if 2 in sock.recv(4096)[2:]:
        sock.sendall(b"\x05\x02")
        sock.recv(4096)
        sock.sendall(b"\x01\x00")
    else:
        sock.sendall(b"\x05\x00")
    sock.recv(4096)


def silent(sock):
    sock.settimeout(_SECONDS)
    while sock.recv(4096):
        pass


def closes(sock):
    sock.recv(4096)


def resets(sock):
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def closes_after_request(sock):
    greet(sock)


def closes_in_reply(sock):
    greet(sock)
    sock.sendall(b"\x05\x00\x00\x01\x7f")


def slowly(sock, data, pause):
    for value in data:
        sock.sendall(bytes([value]))
        time.sleep(pause)


def garbage(sock):
    """Printable, so that neither it nor a part of it is SOCKS5 or HTTP; a byte at a time."""
    randomness = random.Random(4711)
    slowly(sock, bytes(randomness.randrange(0x20, 0x7F) for _ in range(2000)), 0.001)


def endless(sock):
    """A valid beginning of an answer of SOCKS5, and then nothing but one byte a second."""
    greet(sock)
    slowly(sock, b"\x05\x00\x00\x03\xff" + b"x" * _SECONDS, 1)


def method_refused(sock):
    sock.recv(4096)
    sock.sendall(b"\x05\xff")


def wrong_method(sock):
    """GSSAPI, which nobody offered."""
    sock.recv(4096)
    sock.sendall(b"\x05\x01")
    sock.recv(4096)


def credentials_refused(sock):
    sock.recv(4096)
    sock.sendall(b"\x05\x02")
    sock.recv(4096)
    sock.sendall(b"\x01\x01")


def reply(sock, code):
    greet(sock)
    sock.sendall(bytes([5, code]) + _ADDRESS)


def http(sock, status, head=b""):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 " + status + b"\r\n" + head + b"Content-Length: 0\r\n\r\n")


def http_endless_head(sock):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100000):
        sock.sendall(b"X-%d: %s\r\n" % (number, b"y" * 100))


BEHAVIOURS = {
    "silent": silent,
    "closes": closes,
    "resets": resets,
    "closes-after-request": closes_after_request,
    "closes-in-reply": closes_in_reply,
    "garbage": garbage,
    "endless": endless,
    "method-refused": method_refused,
    "wrong-method": wrong_method,
    "credentials-refused": credentials_refused,
    "http-403": lambda sock: http(sock, b"403 Forbidden"),
    "http-407": lambda sock: http(sock, b"407 Proxy Authentication Required",
                                  b"Proxy-Authenticate: Basic realm=\"x\"\r\n"),
    "http-502": lambda sock: http(sock, b"502 Bad Gateway"),
    "http-504": lambda sock: http(sock, b"504 Gateway Timeout"),
    "http-endless-head": http_endless_head,
    "http-closes": closes,
    "http-garbage": garbage,
}


def serve(listener, behave):
    def one(sock):
        try:
            with sock:
                behave(sock)
        except OSError:
            pass

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def main():
    ready, host, port, names = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    for number, name in enumerate(names):
        if name.startswith("reply-"):
            code = int(name.partition("-")[2])
            behave = lambda sock, code=code: reply(sock, code)
        else:
            behave = BEHAVIOURS[name]
        listener = socket.create_server((host, port + number), backlog=128)
        threading.Thread(target=serve, args=(listener, behave), daemon=True).start()
    with open(ready, "w", encoding="ascii"):
        pass
    threading.Event().wait()


if __name__ == "__main__":
    main()
