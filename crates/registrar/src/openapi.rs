//! What the API is, for programs: an OpenAPI 3.1 description, made beside the table of paths and
//! served at `/openapi.json`. A test asks the real API and holds each answer against it.

use serde_json::{Value, json};

/// The description of the registry's API.
pub fn openapi() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Evenkeel registry",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Instances say that they serve a service; whoever wants to know of them lists or watches it."
        },
        "security": [{ "token": [] }],
        "paths": {
            "/v1/services": { "get": operation("services", "All services, or the same once anything changes", &[since(), wait()], None, &[("200", reference("Services"))]) },
            "/v1/services/{service}/instances": {
                "parameters": [service()],
                "get": operation("list", "The instances of a service, or the same once they change", &[since(), wait()], None, &[("200", reference("List"))]),
                "post": operation("register", "Register under an id that is made up", &[], Some("Registration"), &[("201", reference("Registered")), ("200", reference("Registered"))]),
            },
            "/v1/services/{service}/instances/{id}": {
                "parameters": [service(), id()],
                "get": operation("show", "One instance", &[], None, &[("200", reference("Listed"))]),
                "put": operation("registerAs", "Register under this id, or change what is registered", &[], Some("Registration"), &[("201", reference("Registered")), ("200", reference("Registered"))]),
                "delete": operation("deregister", "It serves no longer", &[], None, &[("200", object(json!({ "version": version() }), &["version"]))]),
            },
            "/v1/services/{service}/instances/{id}/heartbeat": {
                "parameters": [service(), id()],
                "post": operation("heartbeat", "It lives; 404: register again", &[], None, &[("200", object(json!({ "ttl_ms": count(), "heartbeat_ms": count() }), &["ttl_ms", "heartbeat_ms"]))]),
            },
            "/v1/services/{service}/events": {
                "parameters": [service()],
                "get": {
                    "operationId": "events",
                    "summary": "Each change as a server-sent event `instances`: its id is the version, its data a List",
                    "parameters": [{ "name": "Last-Event-ID", "in": "header", "schema": version() }],
                    "responses": {
                        "200": { "description": "events", "content": { "text/event-stream": {} } },
                        "default": refusal(),
                    },
                },
            },
            "/v1/status": { "get": operation("status", "How the registry is", &[], None, &[("200", reference("Status"))]) },
            "/openapi.json": { "get": public("openapi", "This description", "application/json") },
            "/healthz": { "get": public("healthz", "That it is served", "text/plain") },
        },
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    json!({
        "Error": object(json!({ "error": { "type": "string" } }), &["error"]),
        "Check": { "oneOf": [
            { "const": "tcp" },
            object(json!({ "http": { "type": "string", "pattern": "^/", "maxLength": 256 } }), &["http"]),
        ] },
        "Registration": object(instance_with(json!({ "id": name() })), &["port"]),
        "Instance": object(
            instance_with(json!({ "id": name(), "service": name() })),
            &["id", "service", "address", "port", "weight", "priority", "ttl_ms"],
        ),
        "Listed": object(
            instance_with(json!({
                "id": name(), "service": name(),
                "state": { "enum": ["up", "late", "restored"] },
            })),
            &["id", "service", "address", "port", "weight", "priority", "ttl_ms", "state"],
        ),
        "List": object(
            json!({
                "service": name(), "version": version(),
                "instances": { "type": "array", "items": reference("Listed") },
                "preserving": { "type": "boolean" },
                "settling": { "type": "boolean" },
                "left": { "type": "array", "items": name() },
                "stale": { "type": "string" },
            }),
            &["service", "version", "instances", "preserving", "settling"],
        ),
        "Services": object(
            json!({
                "version": version(),
                "services": { "type": "array", "items": object(
                    json!({ "name": name(), "instances": count(), "version": version() }),
                    &["name", "instances", "version"],
                ) },
                "preserving": { "type": "boolean" },
            }),
            &["version", "services", "preserving"],
        ),
        "Registered": object(
            json!({ "instance": reference("Instance"), "version": version(), "heartbeat_ms": count() }),
            &["instance", "version", "heartbeat_ms"],
        ),
        "Status": object(
            json!({
                "store": { "enum": ["local", "etcd", "consul"] },
                "durable": { "type": "boolean" }, "connected": { "type": "boolean" },
                "reason": { "type": "string" }, "version": version(),
                "services": count(), "instances": count(), "late": count(), "restored": count(),
                "preserving_ms": count(), "preservations": count(), "watchers": count(),
                "registrations": count(), "heartbeats": count(), "deregistrations": count(),
                "expirations": count(), "refused": count(),
            }),
            &["store", "durable", "connected", "version", "services", "instances", "late",
              "restored", "preservations", "watchers", "registrations", "heartbeats",
              "deregistrations", "expirations", "refused"],
        ),
    })
}

/// The fields that a registration, an instance and an entry of a list have in common, and `more`.
fn instance_with(mut more: Value) -> Value {
    let common = json!({
        "address": { "type": "string", "description": "IPv4 or IPv6; default: where the registration comes from" },
        "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
        "weight": { "type": "integer", "minimum": 0, "maximum": 65535, "default": 1 },
        "priority": { "type": "integer", "minimum": 0, "maximum": 255, "default": 0 },
        "zone": { "type": "string", "minLength": 1, "maxLength": registry::ZONE_BYTES_MAX },
        "metadata": { "type": "object", "additionalProperties": { "type": "string", "maxLength": registry::METADATA_VALUE_BYTES_MAX } },
        "ttl_ms": {
            "type": "integer", "default": 15000,
            "minimum": registry::TTL_MIN.as_millis() as u64,
            "maximum": registry::TTL_MAX.as_millis() as u64,
        },
        "check": reference("Check"),
    });
    if let (Value::Object(more), Value::Object(common)) = (&mut more, common) {
        more.extend(common);
    }
    more
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

fn operation(
    id: &str,
    summary: &str,
    parameters: &[Value],
    body: Option<&str>,
    answers: &[(&str, Value)],
) -> Value {
    let mut responses = json!({ "default": refusal() });
    for (status, schema) in answers {
        responses[*status] = json!({
            "description": "done", "content": { "application/json": { "schema": schema } },
        });
    }
    let mut operation = json!({
        "operationId": id, "summary": summary, "parameters": parameters, "responses": responses,
    });
    if let Some(name) = body {
        operation["requestBody"] = json!({
            "required": true, "content": { "application/json": { "schema": reference(name) } },
        });
    }
    operation
}

fn public(id: &str, summary: &str, content: &str) -> Value {
    json!({
        "operationId": id, "summary": summary, "security": [],
        "responses": { "200": { "description": "done", "content": { content: {} } } },
    })
}

fn refusal() -> Value {
    json!({
        "description": "why it was not done",
        "content": { "application/json": { "schema": reference("Error") } },
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": registry::NAME_BYTES_MAX })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn version() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn service() -> Value {
    json!({ "name": "service", "in": "path", "required": true, "schema": name() })
}

fn id() -> Value {
    json!({ "name": "id", "in": "path", "required": true, "schema": name() })
}

fn since() -> Value {
    json!({ "name": "since", "in": "query", "schema": version(), "description": "the version that is known" })
}

fn wait() -> Value {
    json!({
        "name": "wait", "in": "query", "schema": { "type": "string", "examples": ["30s"] },
        "description": "how long to wait for another version, at most a minute",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::ROUTES;

    #[test]
    fn every_path_is_described_and_nothing_else() {
        let served: BTreeSet<(String, String)> = ROUTES
            .iter()
            .map(|route| {
                let path = route.path.replacen("{}", "{service}", 1).replacen("{}", "{id}", 1);
                (path, route.method.as_str().to_ascii_lowercase())
            })
            .collect();
        let document = openapi();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods =
                    methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
                methods.map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(served, described);
    }
}
