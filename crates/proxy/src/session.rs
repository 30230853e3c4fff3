//! What a client brings along that its sessions go by. Where a service keeps none, nothing is
//! looked for.

use std::net::IpAddr;

use model::spec::AffinitySpec;
use service::{Session, Settings};

/// Of a request.
pub(crate) fn of_request(
    settings: &Settings,
    request: &dyn route::Request,
    client: IpAddr,
) -> Option<Session> {
    let sessions = settings.sessions()?;
    match sessions.spec() {
        AffinitySpec::Insert(cookie) => {
            route::find_cookie(request, &cookie.name, |value| sessions.of_value(value))
        }
        AffinitySpec::Learn { name, .. } => {
            route::find_cookie(request, name, |value| sessions.of_value(value))
        }
        // Of several of one name, one that names an endpoint says more.
        AffinitySpec::Rewrite { name, .. } => {
            let named = |session: &Session| session.token().is_some();
            route::find_cookie(request, name, |value| sessions.of_value(value).filter(named))
                .or_else(|| route::find_cookie(request, name, |value| sessions.of_value(value)))
        }
        AffinitySpec::Header { name, .. } => {
            let mut found = None;
            request.header(name, &mut |value| {
                found = sessions.of_value(value);
                found.is_some()
            });
            found
        }
        AffinitySpec::Source { .. } => sessions.of_client(client),
    }
}

/// Of a stream or flow, which has its address only.
pub(crate) fn of_client(settings: &Settings, client: IpAddr) -> Option<Session> {
    settings.sessions()?.of_client(client)
}
