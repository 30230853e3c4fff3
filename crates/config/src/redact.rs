//! A configuration as it may be shown: without the keys of sessions and accounts, and the tokens of
//! the registry and the agent.

use crate::Source;
use crate::defect::Report;
use crate::tree::{self, Node, Value};

/// Refused as a secret, so that a text that is posted as it was shown changes nothing.
pub(crate) const REDACTED: &str = "REDACTED";

/// The text with the secrets of each service's sessions, the key of each account at a CA, the password for etcd, and each token
/// of the registry, the agent and a source replaced wherever it stands, in comments too. If one is written in a
/// way that cannot be replaced (with escapes, over several lines), or the text cannot be read, nothing
/// but a comment.
pub fn redacted(text: &str) -> String {
    if text.trim_ascii().is_empty() {
        return text.to_owned();
    }
    let Some(root) = read(text) else { return withheld() };
    let mut secrets = Vec::new();
    let mut keep = |holder: Option<&Node>, key: &str| {
        if let Some(Value::Scalar { text, .. }) =
            holder.and_then(|node| child(node, key)).map(|node| &node.value)
            && !text.is_empty()
        {
            secrets.push(text.to_string());
        }
    };
    for service in entries(child(&root, "services")) {
        let affinity = below(&service.value, &["affinity"]);
        for (section, key) in [("cookie", "secret"), ("store", "secret"), ("store", "password")] {
            keep(affinity.and_then(|node| child(node, section)), key);
        }
        keep(below(&service.value, &["discover", "http"]), "token");
    }
    for listener in entries(child(&root, "listeners")) {
        keep(below(&listener.value, &["tls", "acme", "eab"]), "hmac_key");
    }
    for of_service in entries(below(&root, &["registry", "tokens"])) {
        keep(Some(&of_service.value), "token");
    }
    for holder in [&["registry"][..], &["registry", "store", "consul"], &["agent"]] {
        keep(below(&root, holder), "token");
    }
    keep(below(&root, &["registry", "store", "etcd", "user"]), "password");
    // A secret may hold another one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let shown = secrets.iter().fold(text.to_owned(), |text, s| text.replace(s, REDACTED));
    let is_left = |root: &Node| secrets.iter().any(|secret| holds(root, secret));
    match read(&shown) {
        _ if secrets.is_empty() => shown,
        Some(root) if !is_left(&root) => shown,
        _ => withheld(),
    }
}

fn withheld() -> String {
    "# Not shown: it holds a secret that is not written as it is.\n".into()
}

fn read(text: &str) -> Option<Node> {
    tree::read(text, &Report::new(Source { name: "", text }))
}

fn entries(node: Option<&Node>) -> &[tree::Entry] {
    match node.map(|node| &node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}

fn below<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, key| child(node, key))
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    entries(Some(node)).iter().find(|entry| &*entry.key == key).map(|entry| &entry.value)
}

fn holds(node: &Node, secret: &str) -> bool {
    match &node.value {
        Value::Scalar { text, .. } => text.contains(secret),
        Value::List(items) => items.iter().any(|item| holds(item, secret)),
        Value::Map(entries) => {
            entries.iter().any(|e| e.key.contains(secret) || holds(&e.value, secret))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(secret: &str) -> String {
        format!(
            "# {secret}\nlisteners: {{ web: {{ bind: :8080, service: web }} }}\nservices:\n  web:\n    \
             endpoints: [ :5001 ]\n    affinity: {{ cookie: {{ name: K, secret: {secret} }} }}\n"
        )
    }

    #[test]
    fn secrets_are_not_shown_and_the_rest_is() {
        for secret in ["0123456789abcdef", "'0123456789abcdef'", "&s 0123456789abcdef"] {
            let text = file(secret);
            let expected = text.replace("0123456789abcdef", "REDACTED");
            assert_eq!(redacted(&text), expected);
            assert!(crate::tests::read(&expected).is_err(), "it cannot be posted back");
        }
        let alias = "x: &s 0123456789abcdef\n".to_owned() + &file("*s").replacen("# *s", "#", 1);
        assert!(!redacted(&alias).contains("0123456789abcdef"));
        // A comment and an admin token that is the same.
        let plain = file("0123456789abcdef").replace(", secret: 0123456789abcdef", "");
        assert_eq!(redacted(&plain), plain);
        assert_eq!(redacted(""), "");
    }

    #[test]
    fn keys_of_accounts_are_not_shown() {
        let text = "listeners:\n  web:\n    tls: { acme: { eab: { key_id: kid-1, hmac_key: zWNDZM6eQGHW } } }\n";
        let shown = redacted(text);
        assert_eq!(shown, text.replace("zWNDZM6eQGHW", "REDACTED"));
        let refused = crate::tests::read(&shown).unwrap_err().to_string();
        assert!(refused.contains("`hmac_key` is what is shown"), "{refused}");
    }

    #[test]
    fn passwords_of_stores_are_not_shown() {
        let text =
            "registry:\n  store: { etcd: { user: { name: keel, password: pa55-of-etcd } } }\n";
        assert_eq!(redacted(text), text.replace("pa55-of-etcd", "REDACTED"));
    }

    #[test]
    fn what_is_shown_cannot_be_posted_back() {
        for (text, key) in [
            (
                "registry: { store: { etcd: { endpoints: [ http://a:2379 ], user: { name: keel, password: PLACE } } } }\n",
                "password",
            ),
            ("registry: { url: \"http://10.0.0.1:9910\", token: PLACE }\n", "token"),
            ("agent: { token: PLACE }\n", "token"),
            (
                "services: { web: { discover: { http: { url: \"http://a/b\", token: PLACE } } } }\n",
                "token",
            ),
        ] {
            let rest = "listeners: { web: { bind: :8080, protocol: tcp, service: web } }\n";
            let text = match text.contains("services") {
                true => format!("{rest}{text}"),
                false => format!("{rest}services: {{ web: {{ endpoints: [ :1 ] }} }}\n{text}"),
            };
            let shown = redacted(&text.replace("PLACE", "d41d8cd98f00b204"));
            assert_eq!(shown, text.replace("PLACE", "REDACTED"));
            let refused = crate::tests::read(&shown).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{key}` is what is shown")), "{refused}");
            if let Err(defects) = crate::tests::read(&text.replace("PLACE", "d41d8cd98f00b204")) {
                panic!("{defects}");
            }
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_not_shown_at_all() {
        for secret in ["\"\\x30123456789abcdef\"", "\"0123456789\n      abcdef\""] {
            let text = file(secret).replacen("# ", "#", 1).replacen("#\"", "# \"", 1);
            let text = text.split_once("listeners").map(|(_, rest)| format!("listeners{rest}"));
            let shown = redacted(&text.unwrap());
            assert!(shown.starts_with("# Not shown") && shown.lines().count() == 1, "{shown}");
        }
        assert!(redacted("a: [").starts_with("# Not shown"));
    }
}
