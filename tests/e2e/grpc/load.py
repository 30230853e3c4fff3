"""Unary calls from THREADS threads until its input ends, over one channel. Prints a line of JSON: how
many calls were made, which statuses the failed ones had, and which replicas answered.

load.py ADDRESS THREADS
"""

import collections
import json
import sys
import threading

import grpc

channel = grpc.insecure_channel(sys.argv[1], [("grpc.enable_retries", 0)])
unary = channel.unary_unary("/test.Echo/Unary")
stop = threading.Event()
lock = threading.Lock()
calls = 0
failures = collections.Counter()
replicas = collections.Counter()


def run():
    global calls
    while not stop.is_set():
        try:
            name = unary(b"x", timeout=20).split(b":")[0].decode()
        except grpc.RpcError as error:
            name, code = None, error.code().name
        with lock:
            calls += 1
            if name:
                replicas[name] += 1
            else:
                failures[code] += 1


threads = [threading.Thread(target=run) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
print("started", flush=True)
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
print(json.dumps({"calls": calls, "failures": failures, "replicas": replicas}))
