"""handshake.py HOST PORT CASE...: speaks to a proxy itself. A case is "WAY METHODS [USER PASSWORD] TARGET
PORT": which call the bytes are written with, the methods offered in hexadecimal, where to go (an
address or a name). Prints for each how far it came: "refused" (a reset, or the proxy's words for it),
or what was answered by the destination."""
import json
import os
import socket
import sys
import tempfile


def write(sock, data):
    os.write(sock.fileno(), data)


def writev(sock, data):
    os.writev(sock.fileno(), [data[:1], data[1:]])


def send(sock, data):
    sock.send(data)


def sendto(sock, data):
    sock.sendto(data, 0, sock.getpeername())


def sendmsg(sock, data):
    sock.sendmsg([data[:2], data[2:]])


def splice(sock, data):
    out, into = os.pipe()
    os.write(into, data)
    os.splice(out, sock.fileno(), len(data))
    os.close(out)
    os.close(into)


def sendfile(sock, data):
    with tempfile.TemporaryFile() as source:
        source.write(data)
        source.flush()
        os.sendfile(sock.fileno(), source.fileno(), 0, len(data))


def bytewise(sock, data):
    for value in data:
        os.write(sock.fileno(), bytes([value]))


WAYS = {one.__name__: one for one in (
    write, writev, send, sendto, sendmsg, splice, sendfile, bytewise)}


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def request(target, port):
    for kind, family in ((1, socket.AF_INET), (4, socket.AF_INET6)):
        try:
            address = bytes([kind]) + socket.inet_pton(family, target)
            break
        except OSError:
            continue
    else:
        address = bytes([3, len(target)]) + target.encode()
    return b"\x05\x01\x00" + address + port.to_bytes(2, "big")


def go(host, port, way, methods, *rest):
    put = WAYS[way]
    methods = bytes.fromhex(methods)
    with socket.create_connection((host, port), timeout=20) as sock:
        put(sock, bytes([5, len(methods)]) + methods)
        method = receive(sock, 2)[1]
        if method == 2:
            user, password, *rest = rest
            put(sock, bytes([1, len(user)]) + user.encode() + bytes([len(password)]) +
                password.encode())
            if receive(sock, 2)[1] != 0:
                return "refused"
        elif method != 0:
            return "refused"
        rest = rest[-2:]
        put(sock, request(rest[0], int(rest[1])))
        if receive(sock, 10)[1] != 0:
            return "refused"
        put(sock, b"hello")
        return receive(sock, 5).decode()


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    for case in sys.argv[3:]:
        try:
            outcome = go(host, port, *case.split())
        except OSError:
            outcome = "refused"
        print(json.dumps([case, outcome]))


if __name__ == "__main__":
    main()
