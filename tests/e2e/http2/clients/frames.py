"""Frames that h2 would not send, made by hyperframe, over TLS or in clear: HOST PORT CA|-."""
import socket
import ssl
import sys

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

HOST, PORT, CA = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 3, 5, 6


def connect():
    plain = socket.create_connection((HOST, PORT), timeout=30)
    if CA == "-":
        return plain
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain, server_hostname="a.test")


def block(method="GET", more=()):
    head = [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "a.test")]
    return Encoder().encode(head + list(more))


def headers(stream, data, *flags):
    return HeadersFrame(stream, data=data, flags=["END_HEADERS", *flags])


def frames(sock, judge):
    """Frames until the end, or until they are what is wanted and the last ping was answered."""
    data = b""
    found = []
    pinged = False
    while True:
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            frame.parse_body(memoryview(data[9 : 9 + length]))
            data = data[9 + length :]
            found.append(frame)
            pinged |= isinstance(frame, PingFrame) and frame.opaque_data == b"the last"
            if pinged and judge(found):
                return found
        more = sock.recv(65536)
        if not more:
            return found
        data += more


def run(sent, judge):
    sock = connect()
    last = PingFrame(0, opaque_data=b"the last").serialize()
    sock.sendall(PREFACE + SettingsFrame(0).serialize() + b"".join(f.serialize() for f in sent) + last)
    found = frames(sock, judge)
    sock.close()
    return found


def wants_goaway(code):
    return lambda found: any(isinstance(f, GoAwayFrame) and f.error_code == code for f in found)


def wants_reset(stream, code):
    reset = lambda f: isinstance(f, RstStreamFrame) and (f.stream_id, f.error_code) == (stream, code)
    return lambda found: any(map(reset, found)) and not any(isinstance(f, GoAwayFrame) for f in found)


def wants_answer(stream):
    ended = lambda f: f.stream_id == stream and "END_STREAM" in f.flags
    return lambda found: any(map(ended, found)) and not any(isinstance(f, GoAwayFrame) for f in found)


END = "END_STREAM"
CASES = [
    ("8.1", [headers(1, block(), END)], wants_answer(1)),
    ("6.1", [DataFrame(1, data=b"x")], wants_goaway(PROTOCOL_ERROR)),
    ("6.9", [WindowUpdateFrame(0, window_increment=2**31 - 1)], wants_goaway(FLOW_CONTROL_ERROR)),
    ("5.1.1", [headers(2, block(), END)], wants_goaway(PROTOCOL_ERROR)),
    ("8.4", [PushPromiseFrame(1, promised_stream_id=2, data=block())], wants_goaway(PROTOCOL_ERROR)),
    ("6.10", [HeadersFrame(1, data=block()), PingFrame(0, opaque_data=b"ping me!")], wants_goaway(PROTOCOL_ERROR)),
    (
        "6.10",
        [
            HeadersFrame(1, data=block()[:5], flags=[END]),
            ContinuationFrame(1, data=block()[5:], flags=["END_HEADERS"]),
        ],
        wants_answer(1),
    ),
    ("6.4", [RstStreamFrame(1)], wants_goaway(PROTOCOL_ERROR)),
    ("6.5.2", [SettingsFrame(0, settings={2: 2})], wants_goaway(PROTOCOL_ERROR)),
    ("6.5.2", [SettingsFrame(0, settings={4: 2**31})], wants_goaway(FLOW_CONTROL_ERROR)),
    ("6.5.2", [SettingsFrame(0, settings={5: 1})], wants_goaway(PROTOCOL_ERROR)),
    ("8.2.2", [headers(1, block(more=[("connection", "close")]), END)], wants_reset(1, PROTOCOL_ERROR)),
    ("8.2.1", [headers(1, block(more=[("X-Upper", "a")]), END)], wants_reset(1, PROTOCOL_ERROR)),
    (
        "8.1.1",
        [headers(1, block("POST", [("content-length", "5")])), DataFrame(1, data=b"abc", flags=[END])],
        wants_reset(1, PROTOCOL_ERROR),
    ),
    ("4.2", [DataFrame(1, data=b"x" * 16385)], wants_goaway(FRAME_SIZE_ERROR)),
    ("6.8", [GoAwayFrame(0, last_stream_id=0), headers(1, block(), END)], wants_answer(1)),
]
wrong = []
for section, sent, judge in CASES:
    found = run(sent, judge)
    if not judge(found):
        wrong.append((section, sent, found))
assert not wrong, wrong
print(f"{len(CASES)} cases, all done")
