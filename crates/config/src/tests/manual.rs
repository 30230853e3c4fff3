//! What the schema and the manual say is true.

use serde_json::{Value, json};

use super::reading::{DESIGN, FULL};
use super::{VOCABULARY, good};
use crate::table::{Default, Kind, sections};
use crate::{json_schema, keys, reference_markdown};

/// For each section, a text with `@` where its keys go, one key on each line, indented as given.
const PLACES: &[(&str, &str)] = &[
    (
        "listener",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "listener timeouts",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    timeouts:\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "limits",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    limits:\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "forwarding",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    forwarding:\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "listener http2",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    http2:\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "udp",
        "listeners:\n  w:\n    bind: :1\n    protocol: udp\n    service: s\n    udp:\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "route",
        "listeners:\n  w:\n    bind: :1\n    routes:\n    - service: s\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "redirect",
        "listeners:\n  w:\n    bind: :1\n    routes:\n    - redirect:\n        to: /x\n        @\n",
    ),
    ("respond", "listeners:\n  w:\n    bind: :1\n    routes:\n    - respond:\n        @\n"),
    (
        "rewrite",
        "listeners:\n  w:\n    bind: :1\n    routes:\n    - service: s\n      rewrite:\n        @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "header edits",
        "listeners:\n  w:\n    bind: :1\n    routes:\n    - service: s\n      rewrite:\n        request_headers:\n          @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "service",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    @\n",
    ),
    (
        "endpoint",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints:\n    - address: :1\n      @\n",
    ),
    (
        "health",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    health:\n      http: /\n      @\n",
    ),
    (
        "affinity cookie",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    affinity:\n      cookie:\n        name: K\n        @\n",
    ),
    (
        "affinity store",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    affinity:\n      source: true\n      store:\n        redis: rediss://a\n        secret: 0123456789abcdef\n        @\n",
    ),
    (
        "outlier",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    outlier:\n      @\n",
    ),
    (
        "slow start",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    slow_start:\n      window: 9s\n      @\n",
    ),
    (
        "affinity header",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    affinity:\n      header:\n        name: K\n        @\n",
    ),
    (
        "affinity source",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    affinity:\n      source:\n        @\n",
    ),
    (
        "listener tls",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    tls:\n      certificates: [ a.pem ]\n      @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "acme",
        "listeners:\n  w:\n    bind: :1\n    routes: [ { host: a.b, service: s } ]\n    tls:\n      acme:\n        @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "client_auth",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    tls:\n      certificates: [ a.pem ]\n      client_auth:\n        ca: b.pem\n        @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "hsts",
        "listeners:\n  w:\n    bind: :1\n    service: s\n    tls:\n      certificates: [ a.pem ]\n      hsts:\n        max_age: 1d\n        @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "service tls",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    tls:\n      server_name: a.b\n      @\n",
    ),
    (
        "retry",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    retry:\n      @\n",
    ),
    (
        "hedge",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    hedge:\n      @\n",
    ),
    (
        "pool",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    pool:\n      @\n",
    ),
    (
        "service limits",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    limits:\n      @\n",
    ),
    (
        "learnt",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    limits:\n      concurrency:\n        learnt:\n          @\n",
    ),
    (
        "queue",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    limits: { concurrency: 1 }\n    queue:\n      @\n",
    ),
    (
        "wake",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    run: { command: x }\n    wake:\n      @\n",
    ),
    (
        "service timeouts",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    endpoints: [ :1 ]\n    timeouts:\n      @\n",
    ),
    (
        "run",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    run:\n      command: x\n      @\n",
    ),
    (
        "docker provider",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nproviders:\n  docker:\n    @\n",
    ),
    (
        "discover http",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    discover:\n      http:\n        url: http://a\n        @\n",
    ),
    (
        "dns",
        "dns:\n  @\nlisteners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "discover dns",
        "listeners: { w: { bind: :1, service: s } }\nservices:\n  s:\n    discover:\n      dns:\n        name: a\n        port: 1\n        @\n",
    ),
    (
        "registry",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nregistry:\n  data: off\n  @\n",
    ),
    (
        "self-preservation",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nregistry:\n  self_preservation:\n    @\n",
    ),
    (
        "etcd",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nregistry:\n  store:\n    etcd:\n      endpoints: [ 'https://a:1' ]\n      @\n",
    ),
    (
        "etcd user",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nregistry:\n  store:\n    etcd:\n      endpoints: [ 'https://a:1' ]\n      user:\n        @\n",
    ),
    (
        "consul",
        "listeners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }\nregistry:\n  store:\n    consul:\n      @\n",
    ),
    (
        "admin",
        "admin:\n  @\nlisteners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "agent",
        "agent:\n  @\nlisteners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "lars",
        "agent:\n  lars:\n    keys: [ { modid: 1, cmdid: 1, service: s } ]\n    @\nservices: { s: { endpoints: [ :1 ] } }",
    ),
    (
        "file",
        "@\nlisteners: { w: { bind: :1, service: s } }\nservices: { s: { endpoints: [ :1 ] } }",
    ),
];

#[test]
fn the_defaults_of_the_table_are_those_of_the_model() {
    for section in sections(&keys::FILE) {
        for key in section.available() {
            let Default::Written(default) = key.default else { continue };
            // These cannot stand beside the other keys of the test's text, `http` both times.
            if [("health", "tcp"), ("listener", "udp")].contains(&(section.name, key.name)) {
                continue;
            }
            let (_, place) = PLACES
                .iter()
                .find(|(name, _)| *name == section.name)
                .unwrap_or_else(|| panic!("no place for section {}", section.name));
            // An empty map, or another key of the section, stands where nothing is said.
            let before = place.find('@').unwrap();
            let line_start = place[..before].rfind('\n').map_or(0, |at| at + 1);
            let parent = place[..line_start].trim_end();
            let without = if parent.ends_with(':') {
                format!("{parent} {{}}{}", &place[before + 1..])
            } else {
                place.replace('@', "")
            };
            let with = place.replace('@', &format!("{}: {default}", key.name));
            assert_eq!(good(&with).spec, good(&without).spec, "{} of {}", key.name, section.name);
        }
    }
}

#[test]
fn every_section_and_key_is_described() {
    let mut names: Vec<&str> = sections(&keys::FILE).iter().map(|s| s.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two sections of one name");
    for section in sections(&keys::FILE) {
        assert!(section.doc.ends_with('.'), "{}", section.name);
        assert!(section.keys.len() <= 64, "{}: the tests' bit set is full", section.name);
        for key in section.available() {
            assert!(key.doc.ends_with('.'), "`{}` of {}: {}", key.name, section.name, key.doc);
        }
    }
}

#[test]
fn the_manual_names_every_key() {
    let manual = reference_markdown(&VOCABULARY);
    for section in sections(&keys::FILE) {
        for key in section.keys {
            let line = format!("\n| `{}` | ", key.name);
            let later = matches!(key.kind, Kind::Later);
            assert!(later || manual.contains(&line), "{}", key.name);
        }
    }
    for policy in VOCABULARY.policies {
        assert!(manual.contains(&format!("\n- `{}`: ", policy.name)));
    }
}

/// Enough of JSON Schema to check our own schema with.
fn accepts(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{why}: {value} by {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        let definition = &root["$defs"][name];
        assert!(definition.is_object(), "{reference} is not defined");
        return accepts(definition, root, value);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let refused: Vec<_> =
            options.iter().filter_map(|s| accepts(s, root, value).err()).collect();
        if refused.len() == options.len() {
            return Err(format!("none of: {}", refused.join("; ")));
        }
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return fail("no word");
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return fail("another word");
    }
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        _ => value.is_null(),
    };
    if !types.is_empty() && !types.iter().any(|t| is(t)) {
        return fail("wrong type");
    }
    if let (Some(number), Some(min)) = (value.as_f64(), schema["minimum"].as_f64())
        && number < min
    {
        return fail("too small");
    }
    if let (Some(number), Some(max)) = (value.as_f64(), schema["maximum"].as_f64())
        && number > max
    {
        return fail("too large");
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str())
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        return fail("pattern");
    }
    for item in value.as_array().into_iter().flatten() {
        if schema["items"].is_object() {
            accepts(&schema["items"], root, item)?;
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(schema) => accepts(schema, root, value)?,
            None if schema["additionalProperties"] == json!(false) => {
                return Err(format!("unknown key {key}"));
            }
            None if schema["additionalProperties"].is_object() => {
                accepts(&schema["additionalProperties"], root, value)?;
            }
            None => {}
        }
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if value.get(key.as_str().unwrap()).is_none() {
            return fail("a key is missing");
        }
    }
    Ok(())
}

/// A tree as JSON, with scalars typed as YAML 1.2 types them.
fn json_of(node: &crate::tree::Node) -> Value {
    use crate::tree::Value as V;
    match &node.value {
        V::Scalar { .. } if node.is_null() => Value::Null,
        V::Scalar { text, plain: true } => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        V::Scalar { text, .. } => json!(text),
        V::List(items) => items.iter().map(json_of).collect(),
        V::Map(entries) => {
            Value::Object(entries.iter().map(|e| (e.key.to_string(), json_of(&e.value))).collect())
        }
    }
}

fn json_text(text: &str) -> Value {
    let report = crate::defect::Report::new(crate::Source { name: "", text });
    json_of(&crate::tree::read(text, &report).unwrap())
}

#[test]
fn the_schema_accepts_what_is_right() {
    let schema = json_schema(&VOCABULARY);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for text in [DESIGN, &FULL.replace("EMPTY: }", "EMPTY: '' }").replace("1_000", "1000")] {
        accepts(&schema, &schema, &json_text(text)).unwrap();
    }
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = json_schema(&VOCABULARY);
    for (from, to) in [
        ("listeners:", "listener:"),
        ("interval: 2s", "intervall: 2s"),
        ("interval: 2s", "interval: 2"),
        ("weight: 3", "weight: 70000"),
        ("policy: least_request", "policy: least"),
        ("protocol: tcp", "protocol: quic"),
        ("key: header:x-user", "key: header"),
        ("budget: 20%", "budget: 20"),
        ("    bind: 127.0.0.1:1883\n", ""),
    ] {
        let text = DESIGN.replace(from, to);
        assert_ne!(text, DESIGN, "{from}");
        assert!(accepts(&schema, &schema, &json_text(&text)).is_err(), "{to}");
        assert!(super::read(&text).is_err(), "{to}");
    }
}
