"""Calls of all kinds through the balancer at ADDRESS, each with what must come of it. Prints the name
of each check that holds; the first that does not ends it.

calls.py ADDRESS [CA]
"""

import sys
import threading

import grpc

ADDRESS = sys.argv[1]
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.default_authority", "localhost"),
]
if len(sys.argv) > 2:
    with open(sys.argv[2], "rb") as file:
        channel = grpc.secure_channel(ADDRESS, grpc.ssl_channel_credentials(file.read()), OPTIONS)
else:
    channel = grpc.insecure_channel(ADDRESS, OPTIONS)
unary = channel.unary_unary("/test.Echo/Unary")
server_stream = channel.unary_stream("/test.Echo/ServerStream")
client_stream = channel.stream_unary("/test.Echo/ClientStream")
both = channel.stream_stream("/test.Echo/Both")
checks = []


def check(function):
    checks.append(function)
    return function


def fails(call, code):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"it did not fail with {code}")


@check
def a_call():
    answer, call = unary.with_call(b"hello", timeout=20)
    assert answer.endswith(b":hello"), answer
    assert call.code() == grpc.StatusCode.OK


@check
def metadata_both_ways():
    given = (("early", "bird"), ("bytes-bin", b"\x00\xff\x80"))
    _, call = unary.with_call(b"", timeout=20, metadata=given)
    assert dict(call.initial_metadata())["early"] == "bird", call.initial_metadata()
    assert dict(call.trailing_metadata())["bytes-bin"] == b"\x00\xff\x80"


@check
def many_messages_from_the_server():
    assert list(server_stream(b"1000", timeout=60)) == [b"%d" % n for n in range(1000)]


@check
def no_message_from_the_server():
    assert list(server_stream(b"0", timeout=20)) == []


@check
def many_messages_from_the_client():
    assert client_stream((b"x" * n for n in range(500)), timeout=60) == b"124750"


@check
def a_conversation():
    """Each message only after the answer to the one before."""
    heard = threading.Semaphore(0)

    def said():
        for number in range(50):
            yield b"%d" % number
            assert heard.acquire(timeout=20)

    for number, answer in enumerate(both(said(), timeout=60)):
        assert answer.endswith(b":%d" % number), answer
        heard.release()
    assert number == 49


@check
def large_messages():
    size = 5_000_000
    answer = unary(b"y" * size, timeout=60)
    assert len(answer.split(b":", 1)[1]) == size
    assert len(unary(b"", timeout=60, metadata=(("big", str(size)),))) == size


@check
def an_error_of_each_code():
    for code in list(grpc.StatusCode)[1:]:
        value = str(code.value[0])
        error = fails(lambda: unary(b"", timeout=20, metadata=(("fail", value),)), code)
        assert error.details() == f"told to: {value} \u00e9", error.details()
        assert dict(error.trailing_metadata())["replica"]


@check
def an_error_after_messages():
    call = server_stream(b"3", timeout=20, metadata=(("late", "9"),))
    got = []
    error = fails(lambda: got.extend(call), grpc.StatusCode.FAILED_PRECONDITION)
    assert error.details() == "late"


@check
def a_deadline_is_passed_on():
    _, call = unary.with_call(b"", timeout=20)
    left = float(dict(call.trailing_metadata())["left"])
    # The library rounds up.
    assert 5 < left < 22, left
    _, call = unary.with_call(b"")
    assert dict(call.trailing_metadata())["left"] == "none"


@check
def a_deadline_that_passes():
    fails(
        lambda: unary(b"", timeout=0.3, metadata=(("sleep", "20"),)),
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


@check
def a_call_is_cancelled():
    """And its handler hears of it."""
    call = server_stream(b"1", timeout=60, metadata=(("sleep", "30"), ("early", "cancelled")))
    # The first metadata says that it runs.
    assert dict(call.initial_metadata())["early"] == "cancelled"
    call.cancel()
    assert any(b"'cancelled'" in unary(b"ended", timeout=20) for _ in range(50_000))


@check
def a_method_that_is_not_there():
    missing = channel.unary_unary("/test.Echo/Missing")
    fails(lambda: missing(b"", timeout=20), grpc.StatusCode.UNIMPLEMENTED)


@check
def many_at_once():
    calls = [unary.future(b"%d" % n, timeout=60) for n in range(300)]
    for number, call in enumerate(calls):
        assert call.result().endswith(b":%d" % number)


for each in checks:
    each()
    print(each.__name__, flush=True)
