"""Calls the greeter: one channel, which is one connection, and calls that go to all replicas.

client.py [ADDRESS] [CALLS]. Needs: pip install grpcio
"""

import collections
import sys

import grpc

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080"
calls = int(sys.argv[2]) if len(sys.argv) > 2 else 30
with grpc.insecure_channel(address) as channel:
    greet = channel.unary_unary("/demo.Greeter/Greet")
    replicas = collections.Counter(
        greet(b"you", timeout=10).decode().split(" ")[0] for _ in range(calls)
    )
    for replica, count in sorted(replicas.items()):
        print(f"{replica} answered {count} calls")
    for message in channel.unary_stream("/demo.Greeter/Count")(b"3", timeout=10):
        print(message.decode())
