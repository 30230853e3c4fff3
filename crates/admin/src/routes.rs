//! Which path does what: [`ROUTES`] has one line for each.

mod agent;
mod autoscale;
mod certificates;
mod config;
mod demand;
mod discovery;
mod listeners;
mod metrics;
mod probes;
mod registry;
mod services;

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::{BoxFuture, Control, guard};

use Access::{Guarded, Public};
use Run::{AtOnce, Later};

#[rustfmt::skip]
static ROUTES: &[Route] = &[
    Route { access: Guarded, method: Method::GET,   path: "/v1/services",                         run: AtOnce(services::list) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/services/{}",                      run: AtOnce(services::show) },
    Route { access: Guarded, method: Method::POST,  path: "/v1/services/{}/scale",                run: AtOnce(services::scale) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/services/{}/endpoints",            run: AtOnce(services::endpoints) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/services/{}/endpoints/{}",         run: AtOnce(services::endpoint) },
    Route { access: Guarded, method: Method::PATCH, path: "/v1/services/{}/endpoints/{}",         run: AtOnce(services::patch_endpoint) },
    Route { access: Guarded, method: Method::POST,  path: "/v1/services/{}/endpoints/{}/drain",   run: AtOnce(services::drain) },
    Route { access: Guarded, method: Method::POST,  path: "/v1/services/{}/endpoints/{}/undrain", run: AtOnce(services::undrain) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/listeners",                        run: AtOnce(listeners::list) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/certificates",                     run: AtOnce(certificates::list) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/discovery",                        run: AtOnce(discovery::list) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/agent",                            run: AtOnce(agent::show) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/registry",                         run: AtOnce(registry::show) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/autoscale",                        run: AtOnce(autoscale::list) },
    Route { access: Guarded, method: Method::POST,  path: "/v1/autoscale",                        run: AtOnce(autoscale::note) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/demand",                           run: Later(demand::show) },
    Route { access: Guarded, method: Method::GET,   path: "/v1/config",                           run: AtOnce(config::show) },
    Route { access: Guarded, method: Method::POST,  path: "/v1/config",                           run: Later(config::apply) },
    Route { access: Guarded, method: Method::GET,   path: "/metrics",                             run: AtOnce(metrics::show) },
    Route { access: Public,  method: Method::GET,   path: "/healthz",                             run: AtOnce(probes::healthz) },
    Route { access: Public,  method: Method::GET,   path: "/readyz",                              run: AtOnce(probes::readyz) },
];

struct Route {
    access: Access,
    method: Method,
    /// `{}` is one segment, handed to `run` in order and percent-decoded.
    path: &'static str,
    run: Run,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// For probes, which carry no token and ask by any name.
    Public,
    Guarded,
}

enum Run {
    AtOnce(fn(&Call<'_>) -> Answer),
    Later(for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Answer>),
}

/// One request, as the functions in [`ROUTES`] see it.
struct Call<'a> {
    control: &'a dyn Control,
    /// One for each `{}` of the path.
    names: Vec<String>,
    /// What stands behind `?`.
    query: Option<String>,
    body: Vec<u8>,
}

/// Of a request's body; then 413. A configuration of 10,000 routes has about 1 MiB.
const BODY_BYTES_MAX: usize = 8 << 20;

/// For the whole body of a request; then 408.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn answer(
    request: Request<Incoming>,
    token: Option<&str>,
    control: &dyn Control,
) -> Answer {
    let (head, body) = request.into_parts();
    // RFC 9110 section 9.3.2: HEAD is GET without the content; hyper leaves that out.
    let method = if head.method == Method::HEAD { Method::GET } else { head.method };
    let matching: Vec<(&Route, Vec<String>)> = ROUTES
        .iter()
        .filter_map(|route| names(route.path, head.uri.path()).map(|names| (route, names)))
        .collect();
    let public = matching.iter().any(|(route, _)| route.access == Public);
    if !public && let Err(refusal) = guard::admit(&method, &head.uri, &head.headers, token) {
        return refusal;
    }
    if matching.is_empty() {
        return Answer::error(StatusCode::NOT_FOUND, format!("there is no {}", head.uri.path()));
    }
    let allowed = allowed(&matching);
    let Some((route, names)) = matching.into_iter().find(|(route, _)| route.method == method)
    else {
        return Answer::method_not_allowed(&allowed);
    };
    let body = match method {
        Method::GET => Vec::new(),
        _ => match read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        },
    };
    let query = head.uri.query().map(str::to_owned);
    let call = Call { control, names, query, body };
    match route.run {
        AtOnce(run) => run(&call),
        Later(run) => run(&call).await,
    }
}

fn allowed(matching: &[(&Route, Vec<String>)]) -> String {
    let mut methods: Vec<&str> = Vec::new();
    for (route, _) in matching {
        methods.push(route.method.as_str());
        if route.method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

/// All of a request's body, or what is to be answered: it has more than `bytes_max`, or took too
/// long.
pub async fn read_body(body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Answer> {
    match timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} KiB", bytes_max >> 10),
        )),
        Ok(Err(error)) => Err(Answer::error(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// What stands for each `{}` of `pattern` if `path` fits it.
pub fn names(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" {
            names.push(percent_decoded(segment).filter(|name| !name.is_empty())?);
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(names)
}

fn percent_decoded(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(value as u8); // two hexadecimal digits: at most 255
    }
    String::from_utf8(decoded).ok()
}

impl Call<'_> {
    fn service(&self) -> &str {
        &self.names[0] // every path under /v1/services/ that needs it has a first `{}`
    }

    fn endpoint(&self) -> &str {
        &self.names[1] // likewise a second
    }

    fn json<T: DeserializeOwned>(&self, example: &str) -> Result<T, Answer> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Answer::error(StatusCode::BAD_REQUEST, format!("{error}; write {example}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_whole_segments() {
        let check = |pattern, path, expected: Option<&[&str]>| {
            let expected =
                expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(names(pattern, path), expected, "{pattern} {path}");
        };
        check("/healthz", "/healthz", Some(&[]));
        check("/healthz", "/healthz/", None);
        check("/healthz", "/health", None);
        check("/v1/services/{}", "/v1/services/web", Some(&["web"]));
        check("/v1/services/{}", "/v1/services/", None);
        check("/v1/services/{}", "/v1/services/a/b", None);
        check("/s/{}/e/{}", "/s/w%2Fb/e/127.0.0.1:80", Some(&["w/b", "127.0.0.1:80"]));
        check("/s/{}/e/{}", "/s/w/e/%5B::1%5d:80", Some(&["w", "[::1]:80"]));
        check("/s/{}", "/s/%", None);
        check("/s/{}", "/s/%4", None);
        check("/s/{}", "/s/%zz", None);
        check("/s/{}", "/s/%ff", None);
        check("/s/{}", "/s/%+1", None);
    }
}
