"""A client of Evenkeel's agent: asks which endpoint of a service to use, and tells how it went.

    agent = Agent("/run/evenkeel/agent.sock")          # or Agent("127.0.0.1:9901", token="...")
    with agent.pick("web") as pick:
        answer = requests.get(f"http://{pick.address}/", timeout=2)

Leaving the block reports a success with its duration, or, by the exception that left it, what
failed. While the agent cannot be reached, the endpoints that it last told of are used in turn
(`pick.is_last_known`), and it is asked again once a second. Only the standard library is needed;
an Agent may be used by several threads.
"""

import http.client
import json
import socket
import threading
import time

__all__ = ["Agent", "Pick", "Away", "Refused", "Invalid"]

#: Seconds for each step of an exchange with the agent, which is on this machine or near.
TIMEOUT = 0.5
#: Seconds for which the agent is not asked again after it could not be reached.
AWAY = 1.0
#: Seconds after which the list of endpoints is asked for again.
REFRESH = 5.0
#: Outcomes that a report may have.
OUTCOMES = ("success", "server_error", "connect_failed", "broken", "timed_out", "abandoned")


class Away(Exception):
    """The agent cannot be reached, and nothing is known from before."""


class Refused(Exception):
    """The agent has no endpoint to give now; `reason` says why in a word."""

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason


class Invalid(Exception):
    """The agent does not take the request: no such service, a wrong token, a report too late."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


class Agent:
    """The agent at `place`: the path of its Unix socket, or `HOST:PORT`."""

    def __init__(self, place, token=None, timeout=TIMEOUT):
        self._place = place
        self._token = token
        self._timeout = timeout
        # Each thread has a connection of its own.
        self._local = threading.local()
        self._lock = threading.Lock()
        self._known = {}
        self._away_until = 0.0

    def pick(self, service, key=None, exclude=()):
        """An endpoint of this service. `key`: what requests are to be kept together by; `exclude`:
        ids of endpoints that this request was tried on."""
        wanted = {"service": service}
        if key is not None:
            wanted["key"] = key
        if exclude:
            wanted["exclude"] = list(exclude)
        try:
            answer = self._ask("POST", "/v1/pick", wanted)
        except Away:
            endpoint = self._last_known(service, exclude)
            if endpoint is None:
                raise
            return Pick(self, None, endpoint["id"], endpoint["address"])
        self._refresh(service)
        return Pick(self, answer["id"], answer["endpoint"], answer["address"])

    def endpoints(self, service):
        """All endpoints of this service, whatever their state: dictionaries with `id`, `address`,
        `weight`, `zone` and `state`."""
        return self._ask("GET", f"/v1/services/{service}/endpoints")["endpoints"]

    def _refresh(self, service):
        now = time.monotonic()
        with self._lock:
            known = self._known.get(service)
            if known is not None and now - known["told"] < REFRESH:
                return
        try:
            endpoints = self.endpoints(service)
        except (Away, Refused, Invalid):
            return
        with self._lock:
            turn = self._known.get(service, {}).get("turn", 0)
            self._known[service] = {"endpoints": endpoints, "told": now, "turn": turn}

    def _last_known(self, service, exclude):
        with self._lock:
            known = self._known.get(service)
            if known is None:
                return None
            endpoints = known["endpoints"]
            usable = [e for e in endpoints if e["state"] == "healthy" and e["weight"] > 0]
            usable = usable or [e for e in endpoints if e["state"] != "draining"]
            usable = [e for e in usable if e["id"] not in exclude] or usable
            known["turn"] += 1
            return usable[known["turn"] % len(usable)] if usable else None

    def _ask(self, method, path, body=None):
        with self._lock:
            if time.monotonic() < self._away_until:
                raise Away("the agent was away a moment ago")
        try:
            status, answer = self._exchange(method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            with self._lock:
                self._away_until = time.monotonic() + AWAY
            raise Away(f"the agent cannot be reached: {error}") from error
        if status == 200:
            return answer
        message = answer.get("error", "")
        if status == 503:
            raise Refused(message, answer.get("reason", ""))
        raise Invalid(message, status)

    def _exchange(self, method, path, body):
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        kept = getattr(self._local, "connection", None)
        # A connection that was kept may have been closed meanwhile: then once more on a new one.
        for connection in [kept, None] if kept is not None else [None]:
            if connection is None:
                connection = self._connection()
            try:
                connection.request(method, path, body=data, headers=headers)
                response = connection.getresponse()
                text = response.read()
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
                self._local.connection = None
                if connection is kept:
                    continue
                raise
            except BaseException:
                # Half an exchange is left on it.
                connection.close()
                self._local.connection = None
                raise
            self._local.connection = None if response.will_close else connection
            return response.status, json.loads(text)

    def _connection(self):
        if "/" in self._place:
            return _UnixConnection(self._place, self._timeout)
        host, _, port = self._place.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=self._timeout)


class Pick:
    """An endpoint to be called: `address` is `HOST:PORT`, `endpoint` its id. To be reported once,
    by `report`, or by using it as a context."""

    def __init__(self, agent, identifier, endpoint, address):
        self.endpoint = endpoint
        self.address = address
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        #: The agent could not be reached: the report goes nowhere.
        self.is_last_known = identifier is None
        self._agent = agent
        self._id = identifier
        self._began = time.monotonic()

    def report(self, outcome, latency=None):
        """How it went, and how many seconds the answer took. A pick is reported once: further
        reports do nothing."""
        if outcome not in OUTCOMES:
            raise ValueError(f"{outcome!r} is none of {', '.join(OUTCOMES)}")
        identifier, self._id = self._id, None
        if identifier is None:
            return
        told = {"id": identifier, "outcome": outcome}
        if latency is not None:
            told["latency_ms"] = latency * 1000
        self._agent._ask("POST", "/v1/report", told)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        latency = time.monotonic() - self._began
        try:
            if kind is None:
                self.report("success", latency)
            else:
                self.report(_outcome(kind))
        except (Away, Refused, Invalid):
            pass  # There is nothing to be done about it: the pick expires.
        return False


def _outcome(kind):
    """What an exception says of the endpoint."""
    if issubclass(kind, TimeoutError):
        return "timed_out"
    if issubclass(kind, ConnectionRefusedError):
        return "connect_failed"
    if issubclass(kind, (ConnectionError, http.client.HTTPException)):
        return "broken"
    if issubclass(kind, OSError):
        return "connect_failed"
    return "abandoned"
