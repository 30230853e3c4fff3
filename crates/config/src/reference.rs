//! The table of keys as a manual.

use std::fmt::Write as _;

use model::vocabulary::Vocabulary;

use crate::decode::option_expected;
use crate::fields::expected;
use crate::keys;
use crate::table::{Default, Kind, Section, sections};

const HEAD: &str = "\
<!-- Generated from the table of keys in crates/config by `evenkeel schema --markdown`. Do not edit. -->

# Configuration

One YAML file. The least that is useful:

```yaml
listeners:
  web: { bind: :8080, service: web }
services:
  web: { endpoints: [ :5001, :5002 ] }
```

`evenkeel check -c FILE` reports everything that is wrong with a file; `evenkeel schema` prints a
JSON Schema for editors.

## Values

| Written as | Examples | Notes |
|---|---|---|
| duration | `250ms`, `2s`, `1m`, `1h`, `1m30s` | a number needs its unit |
| number of bytes | `4096`, `32KiB`, `1MB` | `KiB` is 1,024 bytes, `KB` 1,000 |
| share | `20%`, `0.2` | |
| address to listen on | `:8080`, `127.0.0.1:8080`, `\"[::]:80\"` | without an address: every IPv4 address of this machine |
| address of an endpoint | `:5001`, `127.0.0.1:5001` | without an address: this machine |
| network | `10.0.0.0/8`, `192.168.1.7` | |
| pattern | `value`, `prefix*`, `~ regex`, `\"*\"` | the last: any value |
| regular expression | `~ ^/users/[0-9]+$` | anchored as written; without look-around |

Text that begins with `*`, `&`, `[`, `{`, `@` or `%`, or holds `: `, needs quotes in YAML.
An anchor (`&name`), alias (`*name`) or merge (`<<: *name`) may be used.
";

/// The format as a reference manual in Markdown: every key, what it may hold, its default and its
/// meaning.
pub fn reference_markdown(vocabulary: &Vocabulary) -> String {
    let mut text = String::from(HEAD);
    let all = sections(&keys::FILE);
    for section in all.iter().filter(|section| !section.keys.is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {}\n\n", heading(section));
        let places = places(section, &all);
        if !places.is_empty() {
            let _ = write!(text, "At {}. ", places.join(", "));
        }
        let _ = write!(
            text,
            "{}\n\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n",
            section.doc
        );
        for key in section.available() {
            let default = match key.default {
                Default::Required => "(required)".into(),
                Default::Written(default) => format!("`{default}`"),
                Default::Means(default) => default.into(),
            };
            let value = escape(&value(&key.kind));
            let doc = escape(key.doc);
            let _ = writeln!(text, "| `{}` | {value} | {default} | {doc} |", key.name);
        }
    }
    text.push_str("\n## Policies\n\n");
    for policy in vocabulary.policies {
        let _ = writeln!(text, "- `{}`: {}", policy.name, policy.summary);
        for option in policy.options {
            let _ = writeln!(
                text,
                "  - `{}`: {}; {}; default `{}`",
                option.name,
                option.summary,
                option_expected(&option.kind),
                option.default
            );
        }
    }
    text
}

fn heading(section: &Section) -> String {
    let mut words = section.name.to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words.replace("Udp", "UDP").replace("Health tcp", "Health by TCP").replace('_', " ")
}

/// The keys that hold this section: "`timeouts` of a listener".
fn places(section: &Section, all: &[&'static Section]) -> Vec<String> {
    let mut places = Vec::new();
    for parent in all {
        for key in parent.available() {
            if key.kind.sections().iter().any(|s| s.name == section.name) {
                let below = match key.kind {
                    Kind::MapOf(name, _) => format!("`{}.{name}`", key.name),
                    _ => format!("`{}`", key.name),
                };
                places.push(match parent.name {
                    "file" => format!("{below} at the top"),
                    _ => format!("{below} of [{}](#{})", heading(parent), anchor(parent)),
                });
            }
        }
    }
    places
}

fn anchor(section: &Section) -> String {
    heading(section).to_lowercase().replace(' ', "-")
}

fn value(kind: &Kind) -> String {
    match kind {
        Kind::Section(section) if section.keys.is_empty() => "`{}`".into(),
        Kind::Section(section) => format!("[{}](#{})", heading(section), anchor(section)),
        Kind::ListOf(item) => format!("list: {}", value(item)),
        Kind::MapOf(name, item) => format!("map: {name} to {}", value(item)),
        Kind::AnyOf(kinds) => kinds.iter().map(value).collect::<Vec<_>>().join(" or "),
        Kind::Policy => "a [policy](#policies), or a map from its name to its options".into(),
        kind => expected(kind),
    }
}

/// A `|` would end the cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
