"""far_server.py READY PORT...: echoes tcp and udp on every address, IPv4 and IPv6, until killed.

A udp answer leaves from the address that was asked (IP_PKTINFO), as a connected client expects.
"""
import selectors
import socket
import struct
import sys

_IP_PKTINFO, _IPV6_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_FREEBIND = 8, 50, 49, 78


def udp_echo(sock):
    data, ancillary, _, peer = sock.recvmsg(65536, 256)
    answer = []
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, destination, _ = struct.unpack("I4s4s", value[:12])
            answer.append((level, kind, struct.pack("I4s4s", 0, destination, bytes(4))))
        elif level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            answer.append((level, kind, value[:16] + bytes(4)))
    sock.sendmsg([data], answer, 0, peer)


def tcp_accept(selector, sock):
    connection, _ = sock.accept()
    connection.setblocking(False)
    selector.register(connection, selectors.EVENT_READ, tcp_echo)


def tcp_echo(selector, sock):
    try:
        data = sock.recv(65536)
        if data:
            sock.send(data)
            return
    except OSError:
        pass
    selector.unregister(sock)
    sock.close()


def main():
    ready, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    selector = selectors.DefaultSelector()
    for port in ports:
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            stream = socket.socket(family, socket.SOCK_STREAM)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            datagram = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                stream.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                datagram.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                datagram.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
                # An address that the routing table makes local is not on an interface.
                datagram.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            else:
                datagram.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            stream.bind((any_address, port))
            stream.listen(512)
            datagram.bind((any_address, port))
            selector.register(stream, selectors.EVENT_READ, tcp_accept)
            selector.register(datagram, selectors.EVENT_READ, lambda _, sock: udp_echo(sock))
    with open(ready, "w", encoding="ascii") as out:
        out.write("ready\n")
    while True:
        for key, _ in selector.select():
            key.data(selector, key.fileobj)


if __name__ == "__main__":
    main()
