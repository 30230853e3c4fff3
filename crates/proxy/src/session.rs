//! What a client brings along that its sessions go by. Where a service keeps none, nothing is
//! looked for.

use std::net::IpAddr;

use model::spec::AffinitySpec;
use service::{Session, Settings};

use crate::clock::Clock;
use crate::listener::Target;

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

/// Where nobody in this process knows the session, what a store knows that other balancers share.
/// Waits for that as long as the store's specification lets it.
pub(crate) async fn ask_store(target: &Target, session: Option<Session>, clock: Clock) {
    let Some(session) = session else { return };
    let store = target.store.load_full();
    let (Some(store), Some(key)) = (store, target.service.lost(session, clock.now())) else {
        return;
    };
    if let Some(endpoint) = store.find(key, clock).await {
        target.service.adopt(key, &endpoint, clock.now());
    }
}

/// Of a stream or flow, which has its address only.
pub(crate) fn of_client(settings: &Settings, client: IpAddr) -> Option<Session> {
    settings.sessions()?.of_client(client)
}
