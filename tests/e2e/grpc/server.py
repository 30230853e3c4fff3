"""A gRPC server for tests, without generated code: messages are bytes.

server.py PORT NAME. What a call does its metadata says: `fail: CODE`, `late: CODE` (after a message),
`sleep: SECONDS`, `big: BYTES`. SIGTERM ends it in order.
"""

import signal
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

PORT, NAME = sys.argv[1], sys.argv[2]
CODES = {code.value[0]: code for code in grpc.StatusCode}
ended = []


def begin(context):
    given = dict(context.invocation_metadata())
    left = context.time_remaining()
    context.set_trailing_metadata(
        (
            ("replica", NAME),
            ("left", "none" if left is None or left > 1e6 else f"{left:.3f}"),
            ("bytes-bin", given.get("bytes-bin", b"")),
        )
    )
    if "fail" in given:
        context.abort(CODES[int(given["fail"])], f"told to: {given['fail']} \u00e9")
    context.send_initial_metadata((("early", given.get("early", "-")),))
    if "sleep" in given:
        # A call that is cancelled is noted, and ends early.
        over = threading.Event()
        if not context.add_callback(over.set):
            over.set()  # It is over already.
        if over.wait(float(given["sleep"])):
            ended.append(given.get("early", "-"))
    return given


def end(given, context):
    if "late" in given:
        context.abort(CODES[int(given["late"])], "late")


def unary(request, context):
    given = begin(context)
    end(given, context)
    if request == b"ended":
        return repr(ended).encode()
    return b"x" * int(given["big"]) if "big" in given else NAME.encode() + b":" + request


def server_stream(request, context):
    given = begin(context)
    for number in range(int(request)):
        yield b"%d" % number
    end(given, context)


def client_stream(requests, context):
    given = begin(context)
    total = sum(len(request) for request in requests)
    end(given, context)
    return b"%d" % total


def both(requests, context):
    given = begin(context)
    for request in requests:
        yield NAME.encode() + b":" + request
    end(given, context)


server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=64),
    options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
)
server.add_generic_rpc_handlers(
    (
        grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "Unary": grpc.unary_unary_rpc_method_handler(unary),
                "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
                "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
                "Both": grpc.stream_stream_rpc_method_handler(both),
            },
        ),
    )
)
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
servicer.set("test.Echo", health_pb2.HealthCheckResponse.SERVING)
if server.add_insecure_port(f"127.0.0.1:{PORT}") == 0:
    sys.exit(1)
server.start()
print("ready", flush=True)


def ill(_signal, _frame):
    servicer.set("test.Echo", health_pb2.HealthCheckResponse.NOT_SERVING)


signal.signal(signal.SIGUSR1, ill)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.wait(3600):
    pass
server.stop(10).wait()
