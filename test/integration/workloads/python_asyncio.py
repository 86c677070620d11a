"""python's asyncio: hundreds of connections in one thread, over TLS, datagrams, unix sockets, names,
timeouts and a cancelled connect."""
import asyncio
import errno
import os
import socket
import ssl

import common
from common import FAR, Timer

CLIENTS = 300


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def ask(opened, size):
    reader, writer = await opened
    sent = common.pattern(size)
    writer.write(sent)
    writer.write_eof() if writer.can_write_eof() else None
    got = await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    return got == sent


class Datagrams(asyncio.DatagramProtocol):
    """Counts what comes, and answers with it when it is the server."""

    def __init__(self, answers):
        self._answers = answers
        self.count = 0
        self.some = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.count += 1
        self.some.set()
        if self._answers:
            self.transport.sendto(data, addr)


async def datagrams(connected):
    loop = asyncio.get_running_loop()
    server, served = await loop.create_datagram_endpoint(
        lambda: Datagrams(True), local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, got = await loop.create_datagram_endpoint(
        lambda: Datagrams(False), **({"remote_addr": address} if connected else
                                     {"local_addr": ("127.0.0.1", 0)}))
    for _ in range(50):
        got.some.clear()
        client.sendto(b"x" * 1000, None if connected else address)
        await asyncio.wait_for(got.some.wait(), 20)
    client.close()
    server.close()
    return [served.count, got.count]


async def refused():
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "connected"


async def times_out():
    """A connect that nobody answers: the backlog of a socket that never accepts is full."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        waiting.append((one, one.connect_ex(full.getsockname())))
    try:
        await asyncio.wait_for(asyncio.open_connection(*full.getsockname()), 0.3)
    except asyncio.TimeoutError:
        return ["timed out", [errno.errorcode[code] for _, code in waiting]]
    return ["connected", []]


async def main():
    common.work_directory()
    certificate, key = common.certificate()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(certificate, key)
    client_tls = ssl.create_default_context(cafile=certificate)
    loop = asyncio.get_running_loop()
    outcome = {}
    with Timer() as timer:
        tcp = await asyncio.start_server(echo, "localhost", 8080, backlog=512)
        tls = await asyncio.start_server(echo, "127.0.0.1", 8443, ssl=server_tls)
        unix = await asyncio.start_unix_server(echo, "/tmp/work/echo.sock", backlog=512)
        for name, count, opening in (
                ("tcp", CLIENTS, lambda: asyncio.open_connection("localhost", 8080)),
                ("tls", 20, lambda: asyncio.open_connection("localhost", 8443, ssl=client_tls)),
                ("unix", CLIENTS, lambda: asyncio.open_unix_connection("/tmp/work/echo.sock"))):
            outcome[name] = sum(await asyncio.gather(
                *[ask(opening(), 20000) for _ in range(count)]))
        for server in (tcp, tls, unix):
            server.close()
            await server.wait_closed()
        outcome["udp"] = [await datagrams(True), await datagrams(False)]
        outcome["refused"] = await refused()
        outcome["timeout"] = await times_out()
        outcome["names"] = sorted({entry[4][0] for entry in await loop.getaddrinfo(
            "localhost", 80, type=socket.SOCK_STREAM)})
        reader, writer = await asyncio.open_connection(FAR, 8080)
        writer.write(b"GET /bytes/100000 HTTP/1.0\r\n\r\n")
        outcome["far"] = len((await reader.read(-1)).partition(b"\r\n\r\n")[2])
        writer.close()
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        outcome["subprocess"] = len((await process.communicate(b"x" * 100000))[0])
        outcome["threads"] = await loop.run_in_executor(None, os.getpid) == os.getpid()
    common.report(outcome, work_s=timer.seconds)


if __name__ == "__main__":
    asyncio.run(main())
