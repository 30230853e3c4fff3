//! Traefik's rules: ``Host(`a`) && (PathPrefix(`/x`) || Path(`/y`))``, to routes of ours.

use std::collections::BTreeMap;

/// The matchers of one route, by key: `host`, `path`, `headers.x-user`.
pub(super) type Route = BTreeMap<String, String>;

/// Parentheses inside each other.
const DEPTH_MAX: usize = 16;
/// Routes that one rule may come to when its alternatives are written out.
const ROUTES_MAX: usize = 64;

/// The routes that together are the rule, or what of it is not understood.
pub(super) fn routes(rule: &str) -> Result<Vec<Route>, String> {
    parse(rule, matcher)
}

/// The names of TLS that a rule for TCP is about: `*` for everything. No other rules for TCP are
/// understood.
pub(super) fn server_names(rule: &str) -> Result<Vec<String>, String> {
    let name = |name: &str, values: &[&str]| match name {
        "HostSNI" => {
            let one = |value: &&str| Route::from([("name".into(), value.to_ascii_lowercase())]);
            Ok(values.iter().map(one).collect())
        }
        other => Err(format!("`{other}` is not understood")),
    };
    Ok(parse(rule, name)?.into_iter().flat_map(BTreeMap::into_values).collect())
}

/// A function of a rule, with its values: the routes that it stands for.
type Matcher = fn(&str, &[&str]) -> Result<Vec<Route>, String>;

fn parse(rule: &str, matcher: Matcher) -> Result<Vec<Route>, String> {
    let mut parser = Parser { rest: rule.trim(), matcher };
    let routes = parser.any(0)?;
    match parser.rest {
        "" => Ok(routes),
        rest => Err(format!("what is `{}`?", first(rest))),
    }
}

struct Parser<'a> {
    rest: &'a str,
    matcher: Matcher,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn any(&mut self, depth: usize) -> Result<Vec<Route>, String> {
        let mut routes = self.all(depth)?;
        while self.take("||") {
            routes.extend(self.all(depth)?);
            bounded(&routes)?;
        }
        Ok(routes)
    }

    fn all(&mut self, depth: usize) -> Result<Vec<Route>, String> {
        let mut routes = self.one(depth)?;
        while self.take("&&") {
            let also = self.one(depth)?;
            let mut both = Vec::new();
            for a in &routes {
                for b in &also {
                    both.push(joined(a, b)?);
                    bounded(&both)?;
                }
            }
            routes = both;
        }
        Ok(routes)
    }

    fn one(&mut self, depth: usize) -> Result<Vec<Route>, String> {
        if depth > DEPTH_MAX {
            return Err("it has too many parentheses".into());
        }
        if self.take("!") {
            return Err("`!` is not understood".into());
        }
        if self.take("(") {
            let routes = self.any(depth + 1)?;
            return if self.take(")") { Ok(routes) } else { Err("a `)` is missing".into()) };
        }
        let end = self.rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if name.is_empty() || !self.take("(") {
            return Err(format!("what is `{}`?", first(if end == 0 { rest } else { name })));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.text()?);
            if self.take(")") {
                return (self.matcher)(name, &values);
            }
            if !self.take(",") {
                return Err(format!("`{name}(` is not closed"));
            }
        }
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '`' | '"' | '\''));
        let Some(quote) = quote else { return Err("a value without quotes".into()) };
        let Some((text, rest)) = self.rest[1..].split_once(quote) else {
            return Err("a quote is not closed".into());
        };
        self.rest = rest.trim_start();
        Ok(text)
    }
}

fn first(text: &str) -> String {
    text.chars().take(20).collect()
}

fn bounded(routes: &[Route]) -> Result<(), String> {
    let within = routes.len() <= ROUTES_MAX;
    within.then_some(()).ok_or_else(|| format!("it comes to more than {ROUTES_MAX} routes"))
}

fn joined(a: &Route, b: &Route) -> Result<Route, String> {
    let mut both = a.clone();
    for (key, value) in b {
        match both.insert(key.clone(), value.clone()) {
            Some(other) if other != *value => {
                return Err(format!("both `{other}` and `{value}` cannot be the {key}"));
            }
            _ => {}
        }
    }
    Ok(both)
}

fn matcher(name: &str, values: &[&str]) -> Result<Vec<Route>, String> {
    let each = |key: &str, write: &dyn Fn(&str) -> Result<String, String>| {
        let one = |value: &&str| Ok(Route::from([(key.to_owned(), write(value)?)]));
        values.iter().map(one).collect::<Result<Vec<Route>, String>>()
    };
    let pair = |section: &str| {
        let pair = match values {
            [name, value] => Some((*name, *value)),
            [both] => both.split_once('='),
            _ => None,
        };
        let (key, value) = pair.ok_or_else(|| format!("`{name}` needs a name and a value"))?;
        let key = format!("{section}.{}", key.to_ascii_lowercase());
        if key.matches('.').count() > 1 {
            return Err(format!("`{key}` cannot be written as a label"));
        }
        Ok(vec![Route::from([(key, literal(value)?)])])
    };
    match name {
        "Host" => each("host", &|value| Ok(value.to_ascii_lowercase())),
        "Path" => each("path", &|value| literal(value)),
        "PathPrefix" => {
            each("path", &|value| Ok(format!("{}/*", literal(value)?.trim_end_matches('/'))))
        }
        "PathRegexp" => each("path", &|value| Ok(format!("~ {value}"))),
        "Method" => {
            let legal = |m: &&str| m.bytes().all(|b| b.is_ascii_alphabetic()) && !m.is_empty();
            if !values.iter().all(legal) {
                return Err("`Method` is not understood".into());
            }
            Ok(vec![Route::from([("method".into(), format!("[{}]", values.join(", ")))])])
        }
        "Header" | "Headers" => pair("headers"),
        "Query" => pair("query"),
        other => Err(format!("`{other}` is not understood")),
    }
}

/// Without what would be a pattern in our words, or is one in theirs.
fn literal(value: &str) -> Result<String, String> {
    if value.starts_with('~') || value.contains(['*', '{']) {
        return Err(format!("the pattern `{value}` is not understood"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, expected: &[&str]) {
        let routes = routes(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let shown: Vec<String> = routes
            .iter()
            .map(|route| {
                let pairs: Vec<String> = route.iter().map(|(k, v)| format!("{k}={v}")).collect();
                pairs.join(" ")
            })
            .collect();
        assert_eq!(shown, expected, "{rule}");
    }

    #[test]
    fn rules() {
        check("Host(`Shop.example`)", &["host=shop.example"]);
        check("Host(`a`, `b`)", &["host=a", "host=b"]);
        check("Host(`a`) && PathPrefix(`/api`)", &["host=a path=/api/*"]);
        check("PathPrefix(`/`)", &["path=/*"]);
        check(
            "Host(`a`) && (Path(`/x`) || PathPrefix(\"/y/\"))",
            &["host=a path=/x", "host=a path=/y/*"],
        );
        check("Host(`a`)||Host(`b`)&&Method(`GET`,`PUT`)", &["host=a", "host=b method=[GET, PUT]"]);
        check("Headers(`X-User`, `x`) && Query(`a=b`)", &["headers.x-user=x query.a=b"]);
        check("PathRegexp(`^/v[0-9]`)", &["path=~ ^/v[0-9]"]);
    }

    #[test]
    fn what_is_not_understood() {
        for rule in [
            "",
            "Host",
            "Host(",
            "Host(a)",
            "Host(`a`",
            "Host(`a`) &&",
            "Host(`a`) Host(`b`)",
            "!Host(`a`)",
            "Host(`a`) && Host(`b`)",
            "HostRegexp(`.*`)",
            "ClientIP(`10.0.0.0/8`)",
            "Path(`/{name}`)",
            "(Host(`a`)",
            &"(".repeat(100),
        ] {
            assert!(routes(rule).is_err(), "{rule}");
        }
        let many = ["(PathPrefix(`/a`) || PathPrefix(`/b`))"; 10].join(" && ");
        assert!(routes(&many).is_err());
    }
}
