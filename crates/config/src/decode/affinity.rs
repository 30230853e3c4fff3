//! `services.NAME.affinity`.

use std::time::Duration;

use model::spec::{AffinitySpec, InsertedCookie, SameSite, SessionStoreSpec, SessionTableSpec};

use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::quoted;
use crate::units::show_duration;

use super::{Context, header, tls};

pub(super) fn affinity(fields: &Fields<'_>, context: &Context<'_>) -> Option<AffinitySpec> {
    let entry = fields.entry("affinity")?;
    let fields = fields.section("affinity", &keys::AFFINITY)?;
    let mut kinds = fields.entries(&["cookie", "header", "source"]);
    let (first, second) = (kinds.next(), kinds.next());
    if let (Some(first), Some(second)) = (first, second) {
        context.report.error_help(
            second.key_span,
            format!("`affinity` has both `{}` and `{}`", first.key, second.key),
            "keep one of the two",
        );
    }
    let cookie = cookie(&fields, context);
    let header = by_header(&fields, context);
    let source = by_source(&fields, context);
    let is_known = ["cookie", "header", "source"].iter().any(|key| fields.has(key));
    if !is_known && scalar(&entry.value).is_none() {
        context.report.error_help(
            entry.key_span,
            "`affinity` does not say what tells clients apart",
            "add `cookie: { name: KEEL }`, `header: X-User` or `source: true`",
        );
    }
    let store = store(&fields, context);
    let mut spec = cookie.or(header).or(source)?;
    if let Some(table) = spec.table_mut() {
        table.store = store;
    } else if let Some(entry) = fields.entry("store") {
        context.report.error_help(
            entry.key_span,
            "`store` with a cookie of ours: the client remembers, and nothing is stored",
            "remove `store`; several balancers understand the cookie if their `secret` is the same",
        );
    }
    Some(spec)
}

fn store(fields: &Fields<'_>, context: &Context<'_>) -> Option<SessionStoreSpec> {
    let fields = fields.section("store", &keys::AFFINITY_STORE)?;
    // All of it is read before anything is missed.
    let owned = |name| fields.text(name).map(|(text, _)| text.to_owned());
    let (username, prefix) = (owned("username"), owned("prefix"));
    let password = super::secret::password(&fields, context);
    let mut timeout = Duration::from_millis(50);
    fields.duration("timeout", &mut timeout);
    let tls = tls::of_store(&fields, context).unwrap_or_default();
    let secret = secret(&fields, context);
    let (redis, span) = fields.text("redis")?;
    let is_address = |rest: &str| !rest.is_empty() && !rest.contains('@');
    let known = ["redis://", "rediss://", "unix:///"]
        .iter()
        .any(|s| redis.strip_prefix(s).is_some_and(is_address));
    if !known {
        let message = match redis.contains('@') {
            true => "the address of a store has no names or passwords in it".into(),
            false => format!("{} is no address of a store", quoted(redis)),
        };
        let help = "write `redis://HOST:6379/0`, `rediss://HOST:6379/0` for TLS, or `unix:///run/redis.sock`; `username` and `password` are keys of their own";
        context.report.error_help(span, message, help);
    }
    if fields.has("tls") && !redis.starts_with("rediss://") {
        context.report.error_help(
            fields.key_span("tls"),
            "`tls` is of a store whose address begins with `rediss://`",
            "write `rediss://` in front of the address, or remove `tls`",
        );
    }
    let (redis, secret) = (redis.to_owned(), secret?);
    let prefix = prefix.unwrap_or_else(|| "evenkeel".into());
    Some(SessionStoreSpec { redis, tls, username, password, secret, prefix, timeout })
}

fn cookie(fields: &Fields<'_>, context: &Context<'_>) -> Option<AffinitySpec> {
    let fields = fields.section("cookie", &keys::AFFINITY_COOKIE)?;
    let name = fields.text("name").filter(|(name, span)| {
        let is_sound = header::is_token(name);
        if !is_sound {
            let message = format!("{} cannot be the name of a cookie", quoted(name));
            context.report.error_help(*span, message, "use letters, digits, `-` and `_`");
        }
        is_sound
    });
    let name = name.map_or("", |(name, _)| name).to_owned();
    let mode = fields.word("mode").map_or("insert", |(mode, _)| mode);
    let foreign: &[&str] = match mode {
        "insert" => &["max"],
        "rewrite" => &["path", "secure", "http_only", "same_site"],
        _ => &["path", "secure", "http_only", "same_site", "secret"],
    };
    for entry in fields.entries(foreign) {
        let message = format!("`{}` has no meaning for `mode: {mode}`", entry.key);
        context.report.error_help(entry.key_span, message, format!("remove `{}`", entry.key));
    }
    let inserted = inserted(&fields, context);
    let mut table = SessionTableSpec::default();
    fields.integer("max", &mut table.max);
    if mode != "insert"
        && let Some(ttl) = inserted.ttl
    {
        table.ttl = ttl;
        if let Some(entry) = fields.entry("ttl")
            && ttl > keys::TABLE_TTL_MAX
        {
            let most = show_duration(keys::TABLE_TTL_MAX);
            let message = format!("`ttl` can be at most {most} with `mode: {mode}`");
            let help = "the application's cookie says how long the client keeps it; `ttl` is for how long it may be unused here";
            context.report.error_help(entry.value.span, message, help);
        }
    }
    Some(match mode {
        "insert" => AffinitySpec::Insert(InsertedCookie { name, ..inserted }),
        "rewrite" => AffinitySpec::Rewrite { name, secret: inserted.secret, table },
        _ => AffinitySpec::Learn { name, table },
    })
}

fn inserted(fields: &Fields<'_>, context: &Context<'_>) -> InsertedCookie {
    let mut spec = InsertedCookie::new("");
    fields.duration_or_off("ttl", &mut spec.ttl);
    if let Some(path) = path(fields, context) {
        spec.path = path;
    }
    fields.bool("secure", &mut spec.secure);
    fields.bool("http_only", &mut spec.http_only);
    if let Some((word, span)) = fields.word("same_site") {
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
    spec.secret = secret(fields, context);
    spec
}

fn by_header(fields: &Fields<'_>, context: &Context<'_>) -> Option<AffinitySpec> {
    let entry = fields.entry("header")?;
    let mut table = SessionTableSpec::default();
    let (name, span) = match scalar(&entry.value) {
        Some(name) => (name, entry.value.span),
        None => {
            let fields = fields.section("header", &keys::AFFINITY_HEADER)?;
            remembered(&fields, &mut table);
            fields.text("name")?
        }
    };
    if !header::is_token(name) {
        let message = format!("{} cannot be the name of a header", quoted(name));
        context.report.error_help(span, message, "use letters, digits and `-`");
    }
    Some(AffinitySpec::Header { name: name.to_ascii_lowercase(), table })
}

fn by_source(fields: &Fields<'_>, context: &Context<'_>) -> Option<AffinitySpec> {
    let entry = fields.entry("source")?;
    let (mut ipv6_prefix, mut table) = (128, SessionTableSpec::default());
    match scalar(&entry.value) {
        Some("true") => {}
        Some("false") => return None,
        Some(_) => {
            let kind = keys::AFFINITY.key("source").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(context.report, "source", &kind, &entry.value);
            return None;
        }
        None => {
            let fields = fields.section("source", &keys::AFFINITY_SOURCE)?;
            fields.integer("ipv6_prefix", &mut ipv6_prefix);
            remembered(&fields, &mut table);
        }
    }
    Some(AffinitySpec::Source { ipv6_prefix, table })
}

fn remembered(fields: &Fields<'_>, table: &mut SessionTableSpec) {
    fields.duration("ttl", &mut table.ttl);
    fields.integer("max", &mut table.max);
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
