"""calls.py SERVER NAME: one A query for NAME to SERVER in each way that a datagram can be sent and
received, and over tcp; prints the address in each answer. The sender has to be SERVER, port 53."""
import ctypes
import ipaddress
import select
import socket
import struct
import sys

SERVER, NAME = sys.argv[1], sys.argv[2]
TO = (SERVER, 53)
LIBC = ctypes.CDLL(None, use_errno=True)
PATIENCE = 20


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("header", Msghdr), ("length", ctypes.c_uint)]


def query(number):
    labels = b"".join(bytes([len(part)]) + part for part in NAME.encode().split(b"."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def address(reply, number):
    assert struct.unpack_from("!H", reply)[0] == number, reply
    assert reply[12:len(query(number))] == query(number)[12:], reply
    return str(ipaddress.ip_address(reply[-4:]))


def datagram_socket():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(PATIENCE)
    return made


def from_server(sender):
    assert sender == TO, f"{sender} answered"


def sendto_recvfrom(number):
    with datagram_socket() as unconnected:
        unconnected.sendto(query(number), TO)
        reply, sender = unconnected.recvfrom(512)
        from_server(sender)
        return address(reply, number)


def sendmsg_recvmsg(number):
    with datagram_socket() as unconnected:
        unconnected.sendmsg([query(number)[:5], query(number)[5:]], [], 0, TO)
        reply, _, _, sender = unconnected.recvmsg(512, 64)
        from_server(sender)
        return address(reply, number)


def connected_send_recv(number):
    with datagram_socket() as connected:
        connected.connect(TO)
        assert connected.getpeername() == TO, connected.getpeername()
        connected.send(query(number))
        return address(connected.recv(512), number)


def non_blocking_poll(number):
    with datagram_socket() as unconnected:
        unconnected.setblocking(False)
        unconnected.sendto(query(number), TO)
        ready, _, _ = select.select([unconnected], [], [], PATIENCE)
        assert ready
        reply, sender = unconnected.recvfrom(512)
        from_server(sender)
        return address(reply, number)


def sendmmsg_recvmmsg(number):
    with datagram_socket() as unconnected:
        unconnected.settimeout(None)
        unconnected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO,
                               struct.pack("ll", PATIENCE, 0))
        data = ctypes.create_string_buffer(query(number), len(query(number)))
        name = ctypes.create_string_buffer(
            struct.pack("=H", socket.AF_INET) + struct.pack("!H", 53) + socket.inet_aton(SERVER) +
            bytes(8), 16)
        piece = Iovec(ctypes.addressof(data), len(query(number)))
        messages = (Mmsghdr * 1)()
        messages[0].header = Msghdr(ctypes.addressof(name), 16, ctypes.addressof(piece), 1)
        sent = LIBC.sendmmsg(unconnected.fileno(), messages, 1, 0)
        assert sent == 1, ctypes.get_errno()
        room = ctypes.create_string_buffer(512)
        piece = Iovec(ctypes.addressof(room), 512)
        ctypes.memset(name, 0, 16)
        messages[0].header = Msghdr(ctypes.addressof(name), 16, ctypes.addressof(piece), 1)
        got = LIBC.recvmmsg(unconnected.fileno(), messages, 1, 0, None)
        assert got == 1, ctypes.get_errno()
        port, = struct.unpack_from("!H", name.raw, 2)
        from_server((socket.inet_ntoa(name.raw[4:8]), port))
        return address(room.raw[:messages[0].length], number)


def over_tcp(number):
    with socket.create_connection(TO, PATIENCE) as stream:
        stream.sendall(struct.pack("!H", len(query(number))) + query(number))
        reply = b""
        while len(reply) < 2 or len(reply) < 2 + struct.unpack_from("!H", reply)[0]:
            part = stream.recv(512)
            assert part, "closed"
            reply += part
        return address(reply[2:], number)


for way in (sendto_recvfrom, sendmsg_recvmsg, connected_send_recv, non_blocking_poll,
            sendmmsg_recvmmsg, over_tcp):
    print(way.__name__, way(4242), flush=True)
