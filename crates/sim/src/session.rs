//! Sessions, as the proxy keeps them (`proxy/src/http1/session.rs`): a session for each key of a
//! group of clients, told apart by what the service's `affinity` goes by.
//!
//! A cookie of ours names the endpoint that served a client last. A cookie of the application
//! (`rewrite`, `learn`) is set with the first answer, and has no new value later. Headers and
//! addresses are there from the beginning. A failure begins no session and moves none.

use std::net::{IpAddr, Ipv6Addr};

use model::spec::AffinitySpec;
use service::{Session, Sessions, Token};

use crate::simulation::Simulation;

/// What a client knows of its session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Home {
    /// The server that served it last, plus one; 0: it never was served.
    server: u32,
    /// What its cookie names, if we write that.
    token: Option<Token>,
}

impl Home {
    /// What its next request says. `named`: the client.
    pub(crate) fn session(&self, sessions: &Sessions, named: u64) -> Option<Session> {
        let value = named.to_be_bytes();
        let has_cookie = self.server != 0;
        match sessions.spec() {
            AffinitySpec::Insert(_) => self.token.map(Session::from),
            AffinitySpec::Rewrite { .. } => {
                let digits = self.token?.digits();
                sessions.of_value(&[&digits[..], &[Token::SEPARATOR], &value].concat())
            }
            AffinitySpec::Learn { .. } if has_cookie => sessions.of_value(&value),
            AffinitySpec::Learn { .. } => None,
            AffinitySpec::Header { .. } => sessions.of_value(&value),
            // Networks of 64 bits, so that each client has its own whatever `ipv6_prefix` says; with
            // a shorter one, as many share one session as would.
            AffinitySpec::Source { .. } => {
                sessions.of_client(IpAddr::V6(Ipv6Addr::from(u128::from(named) << 64)))
            }
        }
    }
}

impl Simulation<'_> {
    /// A good answer comes from where this attempt went: before it is reported, and before the claim
    /// that it has on the session is given up.
    pub(crate) fn keep_session(&mut self, slot: u32, serial: u32) {
        let request = &self.requests[slot as usize];
        let Some(flight) = request.flights().find(|flight| flight.serial == serial) else { return };
        let client = &mut self.clients[request.client as usize];
        let Some(home) = client.homes.get_mut(request.user) else { return };
        let service = &self.balancers[request.balancer as usize].service;
        let settings = service.settings();
        let Some(sessions) = settings.sessions() else { return };
        let endpoint = flight.pick.endpoint();
        let before = home.server;
        home.server = flight.server + 1;
        match sessions.spec() {
            AffinitySpec::Insert(_) => home.token = Some(sessions.token(&endpoint.id)),
            AffinitySpec::Rewrite { .. } if before == 0 => {
                home.token = Some(sessions.token(&endpoint.id));
            }
            _ => {}
        }
        let asked = service::Request { now: self.now, key: None, exclude: &request.tried };
        // The answer itself may bring the cookie that is learnt.
        let session = request.session.or_else(|| home.session(sessions, request.named()));
        if let Some(session) = session.filter(|_| sessions.spec().table().is_some()) {
            service.learn(session, endpoint, &asked);
        }
        let counts = &mut self.recorder.sessions;
        counts.begun += u64::from(before == 0);
        counts.moved += u64::from(before != 0 && before != home.server);
    }
}
