"""patient_proxy.py ADDRESS PORT READY GO: a SOCKS5 proxy that answers no request before the file GO is
there, and then each that it connects. Sends nothing after that."""
import asyncio
import os
import sys


async def main(address, port, ready, go):
    async def serve(reader, writer):
        try:
            _, count = await reader.readexactly(2)
            await reader.readexactly(count)
            writer.write(b"\5\0")
            await reader.readexactly(10)  # of an IPv4 address
            while not os.path.exists(go):
                await asyncio.sleep(0.05)
            writer.write(b"\5\0\0\1\0\0\0\0\0\0")
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, address, int(port), backlog=4096)
    with open(ready, "w", encoding="ascii"):
        pass
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
