//! The API against its own description, by another's validator.

use std::process::Command;

use crate::e2e::harness::peer::skip;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::registrar::Registry;

/// Asks every path of the description, and holds what comes against it.
const ASK: &str = r##"
import json, sys, threading, urllib.error, urllib.request
from jsonschema import Draft202012Validator

url = sys.argv[1]

def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, method=method,
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())

_, document = ask("GET", "/openapi.json")
assert document["openapi"].startswith("3.1")
asked = set()

def resolved(template):
    segments = template.split("/")
    for path in document["paths"]:
        parts = path.split("/")
        if len(parts) == len(segments) and all(p == s or p.startswith("{") for p, s in zip(parts, segments)):
            return path
    raise SystemExit("not described: " + template)

def check(method, path, body=None):
    status, value = ask(method, path, body)
    template = resolved(path.split("?")[0])
    operation = document["paths"][template][method.lower()]
    asked.add((method, template))
    if body is not None:
        hold(operation["requestBody"], body, status < 300)
    responses = operation["responses"]
    hold(responses.get(str(status), responses.get("default")), value, True)
    return status, value

def hold(described, value, valid):
    schema = dict(described["content"]["application/json"]["schema"])
    schema["components"] = document["components"]
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(value)]
    if valid:
        assert not errors, (value, errors)
    else:
        assert errors, ("refused by the registry and not by its description", value)

instances = "/v1/services/web/instances"
full = {"port": 5000, "address": "10.0.0.1", "weight": 3, "priority": 1, "zone": "a",
        "metadata": {"a": "b"}, "ttl_ms": 20000, "check": {"http": "/healthz"}}
assert check("PUT", instances + "/one", full)[0] == 201
assert check("PUT", instances + "/one", full)[0] == 200
assert check("POST", instances, {"port": 5001, "check": "tcp"})[0] == 201
for wrong in [{}, {"port": 0}, {"port": 70000}, {"port": 1, "wieght": 1}, {"port": 1, "ttl_ms": 1},
              {"port": 1, "check": "udp"}, {"port": 1, "weight": -1}, {"port": 1, "zone": ""}]:
    assert check("POST", instances, wrong)[0] == 400, wrong
status, value = check("GET", instances)
assert len(value["instances"]) == 2
waited = []
watch = threading.Thread(target=lambda: waited.append(
    check("GET", instances + "?since=%d&wait=30s" % value["version"])))
watch.start()
assert check("DELETE", instances + "/one")[0] == 200
watch.join()
assert len(waited[0][1]["instances"]) == 1
assert check("DELETE", instances + "/one")[0] == 404
assert check("GET", instances + "/one")[0] == 404
assert check("POST", instances + "/one/heartbeat")[0] == 404
other = value["instances"][1]["id"] if value["instances"][0]["id"] == "one" else value["instances"][0]["id"]
assert check("POST", instances + "/" + other + "/heartbeat")[0] == 200
assert check("GET", instances + "/" + other)[0] == 200
assert check("GET", "/v1/services")[0] == 200
assert check("GET", "/v1/status")[0] == 200
assert check("GET", "/v1/services?since=x")[0] == 400

with urllib.request.urlopen(url + "/v1/services/web/events", timeout=60) as events:
    lines = [events.readline().decode().rstrip("\n") for _ in range(4)]
assert lines[0].startswith("id: ") and lines[1] == "event: instances" and lines[3] == "", lines
schema = {"$ref": "#/components/schemas/List", "components": document["components"]}
listed = json.loads(lines[2].removeprefix("data: "))
Draft202012Validator(schema).validate(listed)
assert lines[0] == "id: %d" % listed["version"]

described = {(method.upper(), path) for path, methods in document["paths"].items()
             for method in methods if method != "parameters"}
left = described - asked - {("GET", "/openapi.json"), ("GET", "/healthz"),
                            ("GET", "/v1/services/{service}/events")}
assert not left, left
print("asked", len(asked))
"##;

#[test]
fn the_description_holds_for_every_answer() {
    let python = "python3";
    let has = Command::new(python).args(["-c", "import jsonschema"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        skip("the OpenAPI description against real answers", "python3 has no jsonschema");
        return;
    }
    let registry = Registry::start("data: off");
    let folder = Folder::new();
    let script = folder.join("ask.py");
    std::fs::write(&script, ASK).unwrap();
    let output = Command::new(python).arg(&script).arg(registry.url()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}
