//! `services.NAME.affinity`.

use model::spec::{AffinitySpec, SameSite};

use crate::fields::{Fields, scalar};
use crate::keys;
use crate::tree::{Value, quoted};

use super::{Context, header};

pub(super) fn affinity(fields: &Fields<'_>, context: &Context<'_>) -> Option<AffinitySpec> {
    if is_left_to_a_policy(fields, context) {
        return None;
    }
    let cookie =
        fields.section("affinity", &keys::AFFINITY)?.section("cookie", &keys::AFFINITY_COOKIE)?;
    let name = cookie.text("name").filter(|(name, span)| {
        let is_sound = header::is_token(name);
        if !is_sound {
            let message = format!("{} cannot be the name of a cookie", quoted(name));
            context.report.error_help(*span, message, "use letters, digits, `-` and `_`");
        }
        is_sound
    });
    let mut spec = AffinitySpec::new(name.map_or("", |(name, _)| name));
    let mut ttl = None;
    cookie.duration_or_off("ttl", &mut ttl);
    spec.ttl = ttl;
    if let Some(path) = path(&cookie, context) {
        spec.path = path;
    }
    cookie.bool("secure", &mut spec.secure);
    cookie.bool("http_only", &mut spec.http_only);
    if let Some((word, span)) = cookie.word("same_site") {
        spec.same_site = match word {
            "strict" => Some(SameSite::Strict),
            "lax" => Some(SameSite::Lax),
            _ => Some(SameSite::None),
        };
        if word == "none" && !spec.secure {
            context.report.error_help(
                span,
                "`same_site: none` without `secure: true`: browsers refuse such a cookie",
                "add `secure: true`, or write `same_site: lax`",
            );
        }
    }
    spec.secret = secret(&cookie, context);
    Some(spec)
}

/// A key that the request brings along needs no memory of ours: hashing it is what policies do.
fn is_left_to_a_policy(fields: &Fields<'_>, context: &Context<'_>) -> bool {
    let Some(entry) = fields.entry("affinity") else { return false };
    let (written, value, span) = match &entry.value.value {
        Value::Map(entries) => {
            let key = entries.iter().find(|e| matches!(&*e.key, "header" | "source"));
            let Some(key) = key else { return false };
            (&*key.key, scalar(&key.value), key.key_span)
        }
        Value::Scalar { text, .. } => {
            let (name, value) = text.split_once(':').map_or((&**text, None), |(n, v)| (n, Some(v)));
            (name, value, entry.value.span)
        }
        _ => return false,
    };
    let key = match (written, value.map(str::trim).filter(|name| header::is_token(name))) {
        ("source", _) => "source".to_owned(),
        ("header", name) => format!("'header:{}'", name.unwrap_or("x-session")),
        _ => return false,
    };
    context.report.error_help(
        span,
        format!("`affinity` by `{written}` is what a policy does"),
        format!("write `policy: {{ rendezvous: {{ key: {key} }} }}` in its place"),
    );
    true
}

/// RFC 6265 section 4.1.1: any character but controls and `;`.
fn path(cookie: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let (path, span) = cookie.text("path")?;
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
        return Some(path.into());
    }
    let message = format!("{} cannot be the path of a cookie", quoted(path));
    context.report.error_help(span, message, "write a path such as `/app`");
    None
}

fn secret(cookie: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let (secret, span) = cookie.text("secret")?;
    if secret.len() < SECRET_LEN_MIN {
        let message = format!("`secret` has {} characters, too few to be one", secret.len());
        let help =
            "write 16 or more that nobody can guess, such as those of `openssl rand -hex 16`";
        context.report.error_help(span, message, help);
        return None;
    }
    Some(secret.into())
}

/// Of hexadecimal digits, 16 are the 64 bits of a token: a shorter secret would be the easier one
/// to guess.
const SECRET_LEN_MIN: usize = 16;
