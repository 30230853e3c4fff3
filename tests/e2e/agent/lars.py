"""Speaks Lars to the agent with messages that protobuf's own library encodes, and compares what it
decides with a model that is written down from the specification.

    lars.py trace DEFAULTS MODID CMDID HOST:PORT,... SEED STEPS UDP_PORT,...
    lars.py wire MODID CMDID UDP_PORT,...
    lars.py routes PORT MODID:CMDID ...
    lars.py status PORT
"""

import random
import socket
import struct
import sys
import time
from collections import deque

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto


def message_classes():
    """The messages of the specification's section 2, from their field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="lars.proto", package="lars", syntax="proto3")

    def message(name, *fields):
        described = file.message_type.add(name=name)
        for field, number, kind, *repeated in fields:
            added = described.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            if repeated:
                added.label = Field.LABEL_REPEATED
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, f".lars.{kind}"
            else:
                added.type = kind

    int32, uint32, boolean = Field.TYPE_INT32, Field.TYPE_UINT32, Field.TYPE_BOOL
    message("HostInfo", ("ip", 1, int32), ("port", 2, int32))
    message("HostCallResult", ("ip", 1, int32), ("port", 2, int32), ("succ", 3, uint32),
            ("err", 4, uint32), ("overload", 5, boolean))
    message("GetRouteRequest", ("modid", 1, int32), ("cmdid", 2, int32))
    message("GetRouteResponse", ("modid", 1, int32), ("cmdid", 2, int32),
            ("host", 3, "HostInfo", True))
    message("ReportStatusRequest", ("modid", 1, int32), ("cmdid", 2, int32), ("caller", 3, int32),
            ("results", 4, "HostCallResult", True), ("ts", 5, uint32))
    message("GetHostRequest", ("seq", 1, uint32), ("modid", 2, int32), ("cmdid", 3, int32))
    message("GetHostResponse", ("seq", 1, uint32), ("modid", 2, int32), ("cmdid", 3, int32),
            ("retcode", 4, int32), ("host", 5, "HostInfo"))
    message("ReportRequest", ("modid", 1, int32), ("cmdid", 2, int32), ("host", 3, "HostInfo"),
            ("retcode", 4, int32))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [described.name for described in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"lars.{name}"))
            for name in names}


MESSAGES = message_classes()
SUCC, OVERLOAD, SYSTEM_ERROR, NOEXIST = range(4)


def make(name, **fields):
    return MESSAGES[name](**fields)


def frame(number, message):
    body = message.SerializeToString()
    return struct.pack("<ii", number, len(body)) + body


def ip_number(text):
    """In host order, as an int32."""
    return struct.unpack("!i", socket.inet_aton(text))[0]


def host_info(host):
    ip, port = host.split(":")
    return make("HostInfo", ip=ip_number(ip), port=int(port))


def host_text(info):
    return f"{socket.inet_ntoa(struct.pack('!i', info.ip))}:{info.port}"


class Caller:
    """The API of the specification's section 8."""

    def __init__(self, modid, cmdid, ports):
        self.modid, self.cmdid = modid, cmdid
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", ports[(modid + cmdid) % 3]))
        self.seq = 0

    def receive(self, number, name):
        answer = self.socket.recv(65535)
        got, length = struct.unpack("<ii", answer[:8])
        assert got == number and length == len(answer) - 8, answer
        return make_from(name, answer[8:])

    def get_host(self):
        self.seq += 1
        self.socket.send(frame(4, make("GetHostRequest", seq=self.seq, modid=self.modid,
                                       cmdid=self.cmdid)))
        answer = self.receive(5, "GetHostResponse")
        assert (answer.seq, answer.modid, answer.cmdid) == (self.seq, self.modid, self.cmdid)
        assert answer.HasField("host") == (answer.retcode == SUCC), answer
        return answer.retcode, host_text(answer.host) if answer.retcode == SUCC else None

    def report(self, host, retcode):
        self.socket.send(frame(6, make("ReportRequest", modid=self.modid, cmdid=self.cmdid,
                                       host=host_info(host), retcode=retcode)))

    def get_route(self):
        self.socket.send(frame(7, make("GetRouteRequest", modid=self.modid, cmdid=self.cmdid)))
        answer = self.receive(8, "GetRouteResponse")
        return [host_text(host) for host in answer.host]


def make_from(name, body):
    message = MESSAGES[name]()
    message.ParseFromString(body)
    # What protobuf would write is what came.
    assert message.SerializeToString(deterministic=True) == body, (message, body)
    return message


DEFAULTS = {
    "readme": dict(succ_rate=0.5, contin_err_limit=15, contin_succ_limit=15),
    "code": dict(succ_rate=0.92, contin_err_limit=10, contin_succ_limit=10),
}
PROBE_NUM, INIT_SUCC_CNT, INIT_ERR_CNT, ERR_RATE = 10, 180, 5, 0.1


class Host:
    def __init__(self, name):
        self.name = name
        self.become_idle()

    def become_idle(self):
        self.vsucc, self.verr, self.csucc, self.cerr, self.overload = INIT_SUCC_CNT, 0, 0, 0, False

    def become_overloaded(self):
        self.vsucc, self.verr, self.csucc, self.cerr, self.overload = 0, INIT_ERR_CNT, 0, 0, True


class Model:
    """Sections 4 to 6. Windows do not end: a trace takes less than they last."""

    def __init__(self, defaults, hosts):
        self.limits = DEFAULTS[defaults]
        self.hosts = {name: Host(name) for name in hosts}
        self.idle, self.overloaded = deque(self.hosts.values()), deque()
        self.access = 0
        self.ejections, self.returns = 0, 0

    @staticmethod
    def take(queue):
        host = queue.popleft()
        queue.append(host)
        return SUCC, host.name

    def get_host(self):
        if not self.idle:
            if self.access >= PROBE_NUM:
                self.access = 0
                return self.take(self.overloaded)
            self.access += 1
            return OVERLOAD, None
        if not self.overloaded:
            return self.take(self.idle)
        if self.access >= PROBE_NUM:
            self.access = 0
            return self.take(self.overloaded)
        self.access += 1
        return self.take(self.idle)

    def report(self, name, retcode):
        host = self.hosts.get(name)
        if host is None:
            return
        if retcode == SUCC:
            host.vsucc, host.csucc, host.cerr = host.vsucc + 1, host.csucc + 1, 0
        else:
            host.verr, host.cerr, host.csucc = host.verr + 1, host.cerr + 1, 0
        if not host.overload and retcode != SUCC:
            rate = host.verr / (host.vsucc + host.verr)
            if rate > ERR_RATE or host.cerr >= self.limits["contin_err_limit"]:
                host.become_overloaded()
                self.idle.remove(host)
                self.overloaded.append(host)
                self.ejections += 1
        elif host.overload and retcode == SUCC:
            rate = host.vsucc / (host.vsucc + host.verr)
            if rate > self.limits["succ_rate"] or host.csucc >= self.limits["contin_succ_limit"]:
                host.become_idle()
                self.overloaded.remove(host)
                self.idle.append(host)
                self.returns += 1


#: Less than the 15 s after which a window ends, which the model does not have.
TRACE_SECONDS = 12


def trace(defaults, modid, cmdid, hosts, seed, steps, ports):
    """Random picks and reports in lockstep with the model."""
    hosts = hosts.split(",")
    caller, model = Caller(int(modid), int(cmdid), ports_of(ports)), Model(defaults, hosts)
    rng = random.Random(int(seed))
    failing = {host: 0.0 for host in hosts}
    began, picked, refused = time.monotonic(), [], 0
    for step in range(int(steps)):
        if rng.random() < 0.02:
            failing[rng.choice(hosts)] = rng.choice([0.0, 0.0, 0.05, 0.3, 1.0])
        if rng.random() < 0.005:
            mood = rng.choice([0.0, 1.0])
            failing = {host: mood for host in hosts}
        if all(host.overload for host in model.hosts.values()) and rng.random() < 0.05:
            failing = {host: 0.0 for host in hosts}
        if rng.random() < 0.6 or not picked:
            expected, got = model.get_host(), caller.get_host()
            assert got == expected, f"seed {seed}, step {step}: {got} instead of {expected}"
            if got[1] is None:
                refused += 1
            else:
                picked.append(got[1])
            continue
        # Mostly of what was picked, at times of a host that was not, or is nobody.
        host = picked.pop(rng.randrange(len(picked)))
        if rng.random() < 0.05:
            host = rng.choice(hosts + ["10.9.8.7:1"])
        retcode = rng.choice([OVERLOAD, SYSTEM_ERROR, NOEXIST, -5]) if rng.random() < failing.get(host, 1.0) else SUCC
        model.report(host, retcode)
        caller.report(host, retcode)
        if time.monotonic() - began > TRACE_SECONDS:
            print("too slow")
            return
    assert model.ejections >= 20 and model.returns >= 20 and refused >= 20, vars(model)
    print(f"equal over {steps} steps: {model.ejections} ejections, {model.returns} returns, "
          f"{refused} refused")


def wire(modid, cmdid, ports):
    """What a caller sees beside picks."""
    ports = ports_of(ports)
    caller = Caller(int(modid), int(cmdid), ports)
    hosts = caller.get_route()
    assert "192.168.1.177:8080" in hosts, hosts
    # Above 128.0.0.0 the number is negative, and takes ten bytes.
    assert ip_number("192.168.1.177") == 3232235953 - 2**32
    code, host = caller.get_host()
    assert code == SUCC and host in hosts
    # Who is unknown, and what is no frame, is not answered, and harms nobody.
    nobody = Caller(99, 99, ports)
    assert nobody.get_host() == (NOEXIST, None)
    assert nobody.get_route() == []
    for datagram in (b"", b"x", struct.pack("<ii", 4, 5) + b"abc", struct.pack("<ii", 4, -1),
                     struct.pack("<ii", 77, 0), struct.pack("<ii", 6, 2) + b"\x08\x80",
                     frame(4, make("GetHostRequest", seq=1)) + b"more"):
        caller.socket.send(datagram)
    assert caller.get_host()[0] == SUCC
    # Fields of a later version are skipped.
    body = make("GetHostRequest", seq=5, modid=int(modid), cmdid=int(cmdid)).SerializeToString()
    body += b"\xfa\x01\x05later"
    caller.socket.send(struct.pack("<ii", 4, len(body)) + body)
    assert caller.receive(5, "GetHostResponse").retcode == SUCC
    print(" ".join(hosts))


class Stream:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, number, message, piecewise=False):
        data = frame(number, message)
        for piece in [data[i:i + 1] for i in range(len(data))] if piecewise else [data]:
            self.socket.sendall(piece)

    def receive(self, number, name):
        got, length = struct.unpack("<ii", self.file.read(8))
        assert got == number
        return make_from(name, self.file.read(length))


def routes(port, *keys):
    """Follows routes, and prints each as it is told."""
    stream = Stream(port)
    for key in keys:
        modid, cmdid = map(int, key.split(":"))
        stream.send(1, make("GetRouteRequest", modid=modid, cmdid=cmdid), piecewise=True)
    while True:
        route = stream.receive(2, "GetRouteResponse")
        hosts = " ".join(host_text(host) for host in route.host)
        print(f"{route.modid}:{route.cmdid} {hosts}".strip(), flush=True)


def status(port):
    """Tells what an agent of Lars counts; then what no agent says, which ends the connection."""
    stream = Stream(port)
    results = [make("HostCallResult", ip=ip_number("192.168.1.177"), port=8080, succ=7, err=2,
                    overload=True),
               make("HostCallResult", ip=ip_number("10.0.0.1"), port=80, succ=2**32 - 1)]
    stream.send(3, make("ReportStatusRequest", modid=1, cmdid=2, caller=-9, results=results,
                        ts=1_700_000_000), piecewise=True)
    stream.send(4, make("GetHostRequest", seq=1))
    assert stream.file.read(1) == b"", "the connection ends"
    for garbage in (struct.pack("<ii", 3, -1), struct.pack("<ii", 3, 65528), b"GET / HTTP/1.1\r\n"):
        stream = Stream(port)
        stream.socket.sendall(garbage)
        assert stream.file.read(1) == b"", "the connection ends"
    print("told")


def ports_of(text):
    return [int(port) for port in text.split(",")]


if __name__ == "__main__":
    {"trace": trace, "wire": wire, "routes": routes, "status": status}[sys.argv[1]](*sys.argv[2:])
