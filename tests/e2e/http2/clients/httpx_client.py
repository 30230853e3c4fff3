"""httpx with HTTP/2: URL CA."""
import asyncio
import ssl
import sys

import httpx

URL, CA = sys.argv[1], sys.argv[2]


async def main():
    context = ssl.create_default_context(cafile=CA)
    limits = httpx.Limits(max_connections=2)
    async with httpx.AsyncClient(http1=False, http2=True, verify=context, limits=limits, timeout=30) as client:
        answer = await client.get(URL)
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2"), answer
        body = b"0123456789" * 100_000
        answer = await client.post(URL, content=body)
        assert answer.content == body

        async def pieces():
            for at in range(0, len(body), 10_000):
                yield body[at : at + 10_000]

        answer = await client.post(URL, content=pieces())
        assert answer.content == body
        async with client.stream("POST", URL, content=body) as answer:
            assert b"".join([piece async for piece in answer.aiter_bytes()]) == body
        # One after another: httpcore mixes up streams of its own that begin at the same moment.
        answers = [await client.post(URL, content=b"%d" % n) for n in range(40)]
        assert [a.content for a in answers] == [b"%d" % n for n in range(40)]
        assert {a.http_version for a in answers} == {"HTTP/2"}


asyncio.run(main())
print("all done")
