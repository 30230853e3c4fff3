//! Which path does what: [`ROUTES`] has one line for each. `openapi.rs` describes them.

mod events;
mod watching;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use admin::{
    Answer, BoxFuture, Peer, Site, authenticate, names, read_body, refuse_foreign_names,
    refuse_web_pages,
};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use registry::{Refusal, Registration, is_id, is_service_name};
use serde_json::json;

use crate::keeper::{Counters, Failed, Keeper};
use crate::openapi;

use Access::{All, Public, Service};
use Act::{
    Deregister, Events, Health, Heartbeat, List, Register, Services, Show, Specification, Status,
};

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    Route { access: All,     method: Method::GET,    path: "/v1/services",                           act: Services },
    Route { access: Service, method: Method::GET,    path: "/v1/services/{}/instances",              act: List },
    Route { access: Service, method: Method::POST,   path: "/v1/services/{}/instances",              act: Register },
    Route { access: Service, method: Method::GET,    path: "/v1/services/{}/instances/{}",           act: Show },
    Route { access: Service, method: Method::PUT,    path: "/v1/services/{}/instances/{}",           act: Register },
    Route { access: Service, method: Method::DELETE, path: "/v1/services/{}/instances/{}",           act: Deregister },
    Route { access: Service, method: Method::POST,   path: "/v1/services/{}/instances/{}/heartbeat", act: Heartbeat },
    Route { access: Service, method: Method::GET,    path: "/v1/services/{}/events",                 act: Events },
    Route { access: All,     method: Method::GET,    path: "/v1/status",                             act: Status },
    Route { access: Public,  method: Method::GET,    path: "/openapi.json",                          act: Specification },
    Route { access: Public,  method: Method::GET,    path: "/healthz",                               act: Health },
];

pub(crate) struct Route {
    access: Access,
    pub(crate) method: Method,
    /// `{}` is one segment: a service, then an instance.
    pub(crate) path: &'static str,
    act: Act,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Public,
    /// With the token of the service, or that of everything.
    Service,
    /// With the token of everything.
    All,
}

#[derive(Clone, Copy)]
enum Act {
    Services,
    List,
    Register,
    Show,
    Deregister,
    Heartbeat,
    Events,
    Status,
    Specification,
    Health,
}

/// Of a request's body; then 413. An instance with all that it may have takes about 20 KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// For how long a client that found the store away, or no place to wait, had better stay away.
const RETRY_AFTER_SECONDS: &str = "1";

/// The registry's API.
pub(crate) struct RegistrySite(pub(crate) Arc<Keeper>);

impl Site for RegistrySite {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'_, Answer> {
        Box::pin(answer(Arc::clone(&self.0), request))
    }
}

/// One request, as the functions below see it.
struct Call {
    keeper: Arc<Keeper>,
    peer: IpAddr,
    names: Vec<String>,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

async fn answer(keeper: Arc<Keeper>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    // RFC 9110 section 9.3.2: HEAD is GET without the content; hyper leaves that out.
    let method = if head.method == Method::HEAD { Method::GET } else { head.method };
    let found = find(&method, head.uri.path());
    let (access, named) = match &found {
        Ok((route, names)) => (route.access, names.first().map(String::as_str)),
        Err(_) => (All, None),
    };
    let admitted = match access {
        Public => Ok(()),
        Service | All => admit(&keeper, named, &method, &head.uri, &head.headers),
    };
    if let Err(refusal) = admitted {
        Counters::count(&keeper.counters.refused);
        return refusal;
    }
    let (route, names) = match found {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    if let Some(name) = names.first().filter(|name| !is_service_name(name)) {
        let message = format!("{name:?} cannot be the name of a service");
        return Answer::error(StatusCode::BAD_REQUEST, message);
    }
    if let Some(id) = names.get(1).filter(|id| !is_id(id)) {
        let message = format!("{id:?} cannot be the id of an instance");
        return Answer::error(StatusCode::BAD_REQUEST, message);
    }
    let body = match method {
        Method::GET => Vec::new(),
        _ => match read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        },
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    // Every door of the registry is TCP.
    let peer = head.extensions.get().map_or(Ipv4Addr::LOCALHOST.into(), |Peer(peer)| *peer);
    let call = Call { keeper, peer, names, query, headers: head.headers, body };
    run(route.act, &call).await.unwrap_or_else(|refusal| refusal)
}

async fn run(act: Act, call: &Call) -> Result<Answer, Answer> {
    match act {
        Events => events::stream(call),
        Services => watching::services(call).await,
        List => watching::list(call).await,
        Register => Ok(register(call).await),
        Deregister => Ok(deregister(call).await),
        Heartbeat => Ok(heartbeat(call)),
        Show => Ok(show(call)),
        Status => Ok(Answer::json(&call.keeper.status())),
        Specification => Ok(Answer::json(&openapi::openapi())),
        Health => Ok(Answer::text("text/plain", "ok\n")),
    }
}

fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<String>), Answer> {
    let matching: Vec<(&Route, Vec<String>)> = ROUTES
        .iter()
        .filter_map(|route| names(route.path, path).map(|names| (route, names)))
        .collect();
    if matching.is_empty() {
        let message = format!("there is no {path}; /openapi.json says what there is");
        return Err(Answer::error(StatusCode::NOT_FOUND, message));
    }
    let methods: Vec<&str> = matching.iter().map(|(route, _)| route.method.as_str()).collect();
    let allowed = methods.join(", ");
    let found = matching.into_iter().find(|(route, _)| route.method == *method);
    found.ok_or_else(|| Answer::method_not_allowed(&allowed))
}

fn admit(
    keeper: &Keeper,
    service: Option<&str>,
    method: &Method,
    uri: &hyper::Uri,
    headers: &HeaderMap,
) -> Result<(), Answer> {
    let settings = keeper.settings();
    let demanded = settings.tokens.are_demanded();
    refuse_foreign_names(uri, headers, demanded)?;
    if demanded {
        authenticate(headers, |sent| settings.tokens.admit(service, sent))?;
    }
    refuse_web_pages(method, uri, headers)
}

async fn register(call: &Call) -> Answer {
    let registration: Result<Registration, _> = serde_json::from_slice(&call.body);
    let mut registration = match registration {
        Ok(registration) => registration,
        Err(error) => {
            let message = format!(r#"{error}; write {{"port": 5000}}"#);
            return Answer::error(StatusCode::BAD_REQUEST, message);
        }
    };
    if let Some(id) = call.names.get(1) {
        if registration.id.as_ref().is_some_and(|other| other != id) {
            let message = "the `id` in the body is not that of the path; leave it out";
            return Answer::error(StatusCode::BAD_REQUEST, message);
        }
        registration.id = Some(id.clone());
    }
    match call.keeper.register(&call.names[0], registration, call.peer).await {
        Ok((instance, new, version)) => {
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            let heartbeat_ms = instance.heartbeat().as_millis() as u64;
            let body =
                json!({ "instance": *instance, "version": version, "heartbeat_ms": heartbeat_ms });
            Answer::json(&body).with_status(status)
        }
        Err(failed) => refused(call, failed),
    }
}

async fn deregister(call: &Call) -> Answer {
    match call.keeper.deregister(&call.names[0], &call.names[1]).await {
        Ok(version) => Answer::json(&json!({ "version": version })),
        Err(failed) => refused(call, failed),
    }
}

fn heartbeat(call: &Call) -> Answer {
    match call.keeper.heartbeat(&call.names[0], &call.names[1]) {
        Ok(instance) => Answer::json(&json!({
            "ttl_ms": instance.ttl_ms,
            "heartbeat_ms": instance.heartbeat().as_millis() as u64,
        })),
        Err(refusal) => refused(call, refusal.into()),
    }
}

fn show(call: &Call) -> Answer {
    let registry = call.keeper.registry();
    let found = registry.find(&call.names[0], &call.names[1], call.keeper.now());
    drop(registry);
    match found {
        Some(listed) => Answer::json(&listed),
        None => refused(call, Refusal::Unknown.into()),
    }
}

fn refused(call: &Call, failed: Failed) -> Answer {
    Counters::count(&call.keeper.counters.refused);
    match failed {
        Failed::Refused(refusal) => {
            let status = match refusal {
                Refusal::Invalid { .. } => StatusCode::BAD_REQUEST,
                Refusal::Unknown => StatusCode::NOT_FOUND,
                Refusal::Limit { .. } => StatusCode::INSUFFICIENT_STORAGE,
            };
            Answer::error(status, refusal.to_string())
        }
        Failed::Store(why) => busy(&format!("the store does not take it: {why}")),
    }
}

/// 503: later it may be otherwise.
fn busy(message: &str) -> Answer {
    Answer::error(StatusCode::SERVICE_UNAVAILABLE, message)
        .with_header(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS))
}

#[cfg(test)]
mod tests;
