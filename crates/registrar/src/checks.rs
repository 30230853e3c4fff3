//! Asks instances how they are that registered with a check: a good answer is a heartbeat.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use registry::{Check, Instance};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::client::{Ask, Authority, Client};
use crate::keeper::Keeper;

/// Asked at once; further ones wait their turn.
const AT_ONCE: usize = 64;
/// Between looks who is due.
const TICK: Duration = Duration::from_millis(100);
/// For one answer; less where the TTL is short.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn run(keeper: Arc<Keeper>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        sleep(TICK).await;
        let due = keeper.registry().due_checks(keeper.now(), places.available_permits());
        for instance in due {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
            let keeper = Arc::clone(&keeper);
            tokio::spawn(async move {
                if passes(&instance).await {
                    // It may have left meanwhile.
                    let _ = keeper.heartbeat(&instance.service, &instance.id);
                }
                drop(place);
            });
        }
    }
}

/// Whether an instance does what its check asks; one without is not asked, and passes.
pub async fn passes(instance: &Instance) -> bool {
    let (address, within) = (instance.socket_address(), instance.heartbeat().min(PATIENCE));
    match &instance.check {
        None => true,
        Some(Check::Tcp) => {
            matches!(timeout(within, TcpStream::connect(address)).await, Ok(Ok(_)))
        }
        Some(Check::Http(path)) => {
            let Ok(authority) = Authority::parse(&address.to_string(), address.port()) else {
                return false;
            };
            let ask = Ask { method: Method::GET, path, body: Vec::new(), within };
            let answer = Client::new(authority).stream(&ask).await;
            answer.is_ok_and(|answer| matches!(answer.status().as_u16(), 200..=399))
        }
    }
}
