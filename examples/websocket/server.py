"""A WebSocket server that sends back what it gets. Needs `pip install websockets`."""

import asyncio
import http
import os
import signal

from websockets.asyncio.server import serve

PORT = int(os.environ.get("PORT", "5000"))


def healthz(connection, request):
    """Answers the health check; `None` goes on with the WebSocket."""
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "ok\n")


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(echo, "127.0.0.1", PORT, process_request=healthz, max_size=16 << 20):
        await stop.wait()


asyncio.run(main())
