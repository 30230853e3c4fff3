"""A greeter over gRPC that names its replica. Needs: pip install grpcio grpcio-health-checking

Its messages are plain text, so that there is nothing to generate; with protobuf all else is the same.
"""

import os
import signal
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

REPLICA = os.environ.get("REPLICA", "alone")


def greet(request, context):
    return f"{REPLICA} greets {request.decode()}".encode()


def count(request, context):
    for number in range(1, int(request) + 1):
        yield f"{REPLICA} counts {number}".encode()


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    methods = {
        "Greet": grpc.unary_unary_rpc_method_handler(greet),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("demo.Greeter", methods),)
    )
    state = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    state.set("demo.Greeter", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{os.environ.get('PORT', '50051')}")
    server.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    # What is in flight is finished.
    server.stop(10).wait()


main()
