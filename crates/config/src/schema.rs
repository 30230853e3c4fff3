//! The table of keys as JSON Schema (draft 2020-12), for editors.

use model::vocabulary::{OptionKind, Vocabulary};
use serde_json::{Map, Value, json};

use crate::keys;
use crate::table::{Default, Key, Kind, Section, sections};

/// The format as JSON Schema, draft 2020-12. Every key is described. It is as strict as a schema
/// can usefully be: what it refuses [`crate::parse`] refuses too, not the other way round.
pub fn json_schema(vocabulary: &Vocabulary) -> Value {
    let mut root = section_schema(&keys::FILE);
    let mut definitions = Map::new();
    for section in sections(&keys::FILE).into_iter().skip(1) {
        definitions.insert(definition_name(section), section_schema(section));
    }
    definitions.insert("policy".into(), policy_schema(vocabulary));
    definitions.insert(
        "duration".into(),
        json!({
            "description": "A duration such as 250ms, 2s, 1m, 1h or 1m30s.",
            "anyOf": [
                { "type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(us|ms|s|m|h|d))+$" },
                { "const": 0 }, { "const": "0" },
            ],
        }),
    );
    definitions.insert(
        "bytes".into(),
        json!({
            "description": "A number of bytes such as 4096, 32KiB or 1MB.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^[0-9_]+ ?([kKmMgG]?[bB]|[kKmMgGtT][iI][bB])?$" },
            ],
        }),
    );
    let mut schema = Map::new();
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), "Evenkeel configuration".into());
    if let Some(root) = root.as_object_mut() {
        schema.append(root);
    }
    schema.insert("$defs".into(), definitions.into());
    schema.into()
}

fn definition_name(section: &Section) -> String {
    section.name.replace(' ', "_")
}

fn section_schema(section: &Section) -> Value {
    let mut properties = Map::new();
    for key in section.available() {
        properties.insert(key.name.into(), key_schema(key));
    }
    // `<<` merges another map in; a schema sees it only where the reader does not merge.
    let mut schema = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    let required: Vec<&str> = section
        .available()
        .filter(|key| matches!(key.default, Default::Required))
        .map(|key| key.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn key_schema(key: &Key) -> Value {
    let mut schema = kind_schema(&key.kind);
    if let Some(schema) = schema.as_object_mut() {
        let doc = match key.default {
            Default::Required => format!("{} Required.", key.doc),
            Default::Written(default) => format!("{} Default: {default}.", key.doc),
            Default::Means(default) => format!("{} Default: {default}.", key.doc),
        };
        schema.insert("description".into(), doc.into());
    }
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Kind::Bytes { .. } => json!({ "$ref": "#/$defs/bytes" }),
        Kind::Duration { .. } => json!({ "$ref": "#/$defs/duration" }),
        Kind::Share => json!({
            "anyOf": [
                { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? *%$" },
                { "type": "number", "minimum": 0, "maximum": 1 },
            ],
        }),
        // Readers of YAML 1.1, as in some editors, take `off` for `false`.
        Kind::Word("off") => json!({ "enum": ["off", false] }),
        Kind::Word(word) => json!({ "const": word }),
        Kind::Text(text) if text.number => json!({
            "type": ["string", "number", "boolean"],
            "examples": [text.example],
        }),
        Kind::Text(text) => json!({ "type": "string", "examples": [text.example] }),
        Kind::Section(section) => {
            json!({ "$ref": format!("#/$defs/{}", definition_name(section)) })
        }
        Kind::ListOf(item) => json!({ "type": "array", "items": kind_schema(item) }),
        Kind::MapOf(_, value) => {
            json!({ "type": "object", "additionalProperties": kind_schema(value) })
        }
        Kind::AnyOf(kinds) => {
            json!({ "anyOf": kinds.iter().map(kind_schema).collect::<Vec<_>>() })
        }
        Kind::Policy => json!({ "$ref": "#/$defs/policy" }),
        Kind::Later => json!(false),
    }
}

fn policy_schema(vocabulary: &Vocabulary) -> Value {
    let mut policies = Map::new();
    for policy in vocabulary.policies {
        let mut options = Map::new();
        for option in policy.options {
            let mut schema = option_schema(&option.kind);
            schema["description"] =
                format!("{}. Default: {}.", option.summary, option.default).into();
            options.insert(option.name.into(), schema);
        }
        policies.insert(
            policy.name.into(),
            json!({
                "type": ["object", "null"],
                "description": policy.summary,
                "properties": options,
                "additionalProperties": false,
            }),
        );
    }
    let names: Vec<&str> = vocabulary.policies.iter().map(|policy| policy.name).collect();
    json!({
        "anyOf": [
            { "enum": names },
            {
                "type": "object",
                "properties": policies,
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    })
}

fn option_schema(kind: &OptionKind) -> Value {
    match kind {
        OptionKind::Bool => json!({ "type": "boolean" }),
        OptionKind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        OptionKind::Float { min, max } => {
            json!({ "type": "number", "minimum": min, "maximum": max })
        }
        OptionKind::Duration => json!({ "$ref": "#/$defs/duration" }),
        OptionKind::OneOf(words) => json!({ "enum": words }),
        OptionKind::Key => {
            json!({ "type": "string", "pattern": "^(source|path|(header|cookie|query):.+)$" })
        }
        OptionKind::Path => {
            json!({ "anyOf": [
                { "enum": ["off", false] },
                { "type": "string", "pattern": "^/", "maxLength": 255 },
            ] })
        }
        OptionKind::Text => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
    }
}
