"""dns_server.py READY ADDRESS ANSWER4 ANSWER6: a name server on port 53 of every address, udp and tcp.

Everything below example.com is at ANSWER4 and ANSWER6 if ADDRESS was asked, and at the address that
was asked itself if that was another one: a server that lies. Nothing else exists. Each question is
printed.
"""
import selectors
import socket
import struct
import sys

_IP_PKTINFO = 8
_A, _AAAA = 1, 28


def read_name(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace").lower())
        at += 1 + query[at]
    return ".".join(labels), at + 1


def answer(query, asked, honest, addresses):
    name, end = read_name(query)
    kind, = struct.unpack_from("!H", query, end)
    print(name, kind, asked, flush=True)
    exists = name == "example.com" or name.endswith(".example.com")
    data = b""
    if exists and kind == _A:
        data = socket.inet_aton(addresses[0] if asked == honest else asked)
    elif exists and kind == _AAAA and asked == honest:
        data = socket.inet_pton(socket.AF_INET6, addresses[1])
    record = struct.pack("!HHHIH", 0xc00c, kind, 1, 60, len(data)) + data if data else b""
    return (query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if exists else 3), 1, 1 if data else 0, 0, 0) +
            query[12:end + 4] + record)


def main():
    ready, honest, *addresses = sys.argv[1:]
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    datagrams.bind(("0.0.0.0", 53))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", 53))
    listener.listen(64)
    selector = selectors.DefaultSelector()
    streams = {}

    def datagram(_):
        query, ancillary, _, peer = datagrams.recvmsg(65536, 256)
        _, destination, _ = struct.unpack("I4s4s", ancillary[0][2][:12])
        info = (socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("I4s4s", 0, destination, bytes(4)))
        datagrams.sendmsg([answer(query, socket.inet_ntoa(destination), honest, addresses)], [info],
                          0, peer)

    def accept(_):
        stream, _ = listener.accept()
        streams[stream] = b""
        selector.register(stream, selectors.EVENT_READ, read)

    def read(stream):
        try:
            data = stream.recv(65536)
            streams[stream] += data
            while len(streams[stream]) >= 2:
                size, = struct.unpack_from("!H", streams[stream])
                if len(streams[stream]) < 2 + size:
                    break
                reply = answer(streams[stream][2:2 + size], stream.getsockname()[0], honest,
                               addresses)
                streams[stream] = streams[stream][2 + size:]
                stream.sendall(struct.pack("!H", len(reply)) + reply)
        except OSError:
            data = b""
        if not data:
            selector.unregister(stream)
            del streams[stream]
            stream.close()

    selector.register(datagrams, selectors.EVENT_READ, datagram)
    selector.register(listener, selectors.EVENT_READ, accept)
    with open(ready, "w", encoding="ascii") as out:
        out.write("ready\n")
    while True:
        for key, _ in selector.select():
            key.data(key.fileobj)


if __name__ == "__main__":
    main()
