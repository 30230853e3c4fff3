"""Holds WebSockets open, and tries each of them whenever you press Enter. Needs
`pip install websockets`.

    python3 client.py [URL] [CONNECTIONS]
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect

MIB = 1 << 20


async def try_out(connection):
    """Text, binary, nothing, a large message, and a ping: each must come back as it went."""
    for message in ["héllo", b"\x00\xff", "", os.urandom(MIB), "x" * MIB]:
        await connection.send(message)
        if await connection.recv() != message:
            raise ValueError(f"{len(message)} did not come back as they went")
    await (await connection.ping())


async def main(url="ws://127.0.0.1:8080/", count="6"):
    # Pings of the library's own would hide that a connection is idle, so there are none.
    options = {"max_size": 2 * MIB, "ping_interval": None}
    connections = [await connect(url, **options) for _ in range(int(count))]
    loop = asyncio.get_running_loop()
    print(f"{count} connections; Enter tries them, the end of the input closes them", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        await asyncio.gather(*map(try_out, connections))
        print(f"{count} of {count} answered", flush=True)
    for connection in connections:
        await connection.close(code=4000, reason="done")
    print("closed with", sorted({connection.close_code for connection in connections}), flush=True)


asyncio.run(main(*sys.argv[1:]))
