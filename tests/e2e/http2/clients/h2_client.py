"""Python's h2, which takes nothing that RFC 9113 forbids, against a listener: HOST PORT CA|-.

The endpoint answers with the body that it was sent, and echoes WebSocket messages.
"""
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

HOST, PORT, CA = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Client:
    def __init__(self, window=None):
        plain = socket.create_connection((HOST, PORT), timeout=30)
        if CA == "-":
            self.socket = plain
        else:
            context = ssl.create_default_context(cafile=CA)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(plain, server_hostname="a.test")
            assert self.socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            self.h2.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.initiate_connection()
        self.events = []
        self.flush()
        self.until(lambda e: isinstance(e, h2.events.RemoteSettingsChanged))

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def turn(self, consume=True):
        data = self.socket.recv(65536)
        assert data, "the server ended the connection"
        for event in self.h2.receive_data(data):
            if consume and isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.events.append(event)
        self.flush()

    def until(self, found):
        while not any(found(e) for e in self.events):
            self.turn()

    def request(self, method, path, more=(), end=True):
        stream = self.h2.get_next_available_stream_id()
        scheme = "http" if CA == "-" else "https"
        head = [(":method", method), (":scheme", scheme), (":path", path), (":authority", "a.test")]
        self.h2.send_headers(stream, head + list(more), end_stream=end)
        self.flush()
        return stream

    def send(self, stream, body, end=True):
        sent = 0
        while sent < len(body):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                self.turn()
                continue
            piece = body[sent : sent + room]
            self.h2.send_data(stream, piece)
            sent += len(piece)
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def answer(self, stream):
        over = (h2.events.StreamEnded, h2.events.StreamReset)
        self.until(lambda e: isinstance(e, over) and e.stream_id == stream)
        own = [e for e in self.events if getattr(e, "stream_id", None) == stream]
        head = next((dict(e.headers) for e in own if isinstance(e, h2.events.ResponseReceived)), {})
        body = b"".join(e.data for e in own if isinstance(e, h2.events.DataReceived))
        reset = next((e.error_code for e in own if isinstance(e, h2.events.StreamReset)), None)
        return head, body, reset


def check(what, condition):
    assert condition, what
    print("ok:", what)


client = Client()
codes = h2.settings.SettingCodes
check("RFC 8441 is offered", client.h2.remote_settings[codes.ENABLE_CONNECT_PROTOCOL] == 1)
head, body, reset = client.answer(client.request("GET", "/"))
check("GET", (head[":status"], body, reset) == ("200", b"", None))
head, body, reset = client.answer(client.request("HEAD", "/"))
check("HEAD", (head[":status"], body, reset) == ("200", b"", None))
large = bytes(range(256)) * 8000
stream = client.request("POST", "/", end=False)
client.send(stream, large)
head, body, reset = client.answer(stream)
check("two megabytes up and down", body == large and reset is None)
stream = client.request("POST", "/", [("content-length", "5")], end=False)
client.send(stream, b"hello")
check("content-length", client.answer(stream)[1] == b"hello")
stream = client.request("POST", "/", end=False)
client.send(stream, b"with trailers", end=False)
client.h2.send_headers(stream, [("x-sum", "7")], end_stream=True)
client.flush()
check("trailers", client.answer(stream)[1] == b"with trailers")
streams = [client.request("POST", "/", end=False) for _ in range(100)]
for number, stream in enumerate(streams):
    client.send(stream, b"number %d" % number)
bodies = [client.answer(stream)[1] for stream in streams]
check("a hundred at once", bodies == [b"number %d" % number for number in range(100)])
client.h2.ping(b"are you?")
client.flush()
client.until(lambda e: isinstance(e, h2.events.PingAckReceived) and e.ping_data == b"are you?")
check("PING", True)
stream = client.request("POST", "/", end=False)
client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
client.flush()
check("RST_STREAM", client.answer(client.request("GET", "/"))[0][":status"] == "200")
cookies = [("x-large-%d" % n, "y" * 6000) for n in range(4)]
head, body, reset = client.answer(client.request("GET", "/", cookies))
check("CONTINUATION", head[":status"] == "200")
head, body, reset = client.answer(client.request("GET", "/", cookies + cookies))
check("fields beyond the bound", head[":status"] == "431" and body.startswith(b"431 "))
stream = client.request("POST", "/", [("expect", "100-continue")], end=False)
client.until(lambda e: isinstance(e, h2.events.InformationalResponseReceived))
client.send(stream, b"continued")
check("100 (Continue)", client.answer(stream)[1] == b"continued")
client.h2.update_settings({codes.INITIAL_WINDOW_SIZE: 1000})
client.flush()
client.until(lambda e: isinstance(e, h2.events.SettingsAcknowledged))
stream = client.request("POST", "/", end=False)
client.send(stream, large[:100_000])
check("a small window", client.answer(stream)[1] == large[:100_000])

# A body that nobody takes holds up no other stream.
client = Client(window=1 << 20)
first = client.request("POST", "/", end=False)
client.send(first, large[:40_000])
client.until(lambda e: isinstance(e, h2.events.DataReceived) and e.stream_id == first)
second = client.request("GET", "/")
check("another stream meanwhile", client.answer(second)[0][":status"] == "200")

# RFC 8441, then RFC 6455 in DATA frames.
client = Client()
stream = client.h2.get_next_available_stream_id()
head = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/ws")]
client.h2.send_headers(stream, head + [(":authority", "a.test"), ("sec-websocket-version", "13")])
client.flush()
client.until(lambda e: isinstance(e, h2.events.ResponseReceived))
status = [dict(e.headers) for e in client.events if isinstance(e, h2.events.ResponseReceived)]
check("a WebSocket opens", status[0][":status"] == "200")
check("without the key's answer", "sec-websocket-accept" not in status[0])
for text in (b"hello", b"again"):
    mask = b"\1\2\3\4"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
    client.h2.send_data(stream, bytes([0x81, 0x80 | len(text)]) + mask + masked)
    client.flush()
    came = lambda: b"".join(e.data for e in client.events if isinstance(e, h2.events.DataReceived))
    while text not in came():
        client.turn()
check("messages come back", True)
client.h2.send_data(stream, bytes([0x88, 0x80]) + b"\0\0\0\0", end_stream=True)
client.flush()
client.until(lambda e: isinstance(e, (h2.events.StreamEnded, h2.events.StreamReset)))
check("and it closes", True)
print("all done")
