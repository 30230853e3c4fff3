//! Lists, and waiting until they change: `?since=VERSION&wait=30s`.

use std::time::Duration;

use admin::Answer;
use hyper::StatusCode;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::{Call, busy};

/// The longest that one request waits; then it gets what there is, and may come again.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Changes that come together are told together.
pub(super) const GATHER: Duration = Duration::from_millis(10);

/// What a watcher says it knows, and for how long it waits for another.
struct Waiting {
    since: u64,
    wait: Duration,
}

pub(super) async fn list(call: &Call) -> Result<Answer, Answer> {
    let service = &call.names[0];
    if let Some(waiting) = waiting(call)? {
        let _place = place(call)?;
        let current = || call.keeper.registry().service_version(service);
        until_changed(call.keeper.watch(service), &waiting, current).await;
    }
    Ok(Answer::json(&call.keeper.list(service)))
}

pub(super) async fn services(call: &Call) -> Result<Answer, Answer> {
    if let Some(waiting) = waiting(call)? {
        let _place = place(call)?;
        until_changed(call.keeper.watch_all(), &waiting, || call.keeper.registry().version()).await;
    }
    let status = call.keeper.status();
    let registry = call.keeper.registry();
    let services: Vec<_> = registry
        .services()
        .map(|(name, instances, version)| {
            json!({ "name": name, "instances": instances, "version": version })
        })
        .collect();
    Ok(Answer::json(&json!({
        "version": registry.version(),
        "services": services,
        "preserving": status.preserving_ms.is_some(),
    })))
}

/// A watcher's place; 503 where there is none left.
pub(super) fn place(call: &Call) -> Result<OwnedSemaphorePermit, Answer> {
    let settings = call.keeper.settings();
    settings.watchers.clone().try_acquire_owned().map_err(|_| {
        busy(&format!("too many wait for changes: `watchers_max` is {}", settings.watchers_max))
    })
}

async fn until_changed(
    mut versions: watch::Receiver<u64>,
    waiting: &Waiting,
    current: impl Fn() -> u64,
) {
    // Versions are only compared for equality, so that one from before a restart counts as other.
    let changed = async {
        while current() == waiting.since {
            if versions.changed().await.is_err() {
                return;
            }
        }
        sleep(GATHER).await;
    };
    if current() == waiting.since {
        let _ = timeout(waiting.wait, changed).await;
    }
}

fn waiting(call: &Call) -> Result<Option<Waiting>, Answer> {
    let bad = |message: String| Answer::error(StatusCode::BAD_REQUEST, message);
    let (mut since, mut wait) = (None, None);
    for pair in call.query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("since", value)) => {
                let value: u64 = value
                    .parse()
                    .map_err(|_| bad(format!("`since` must be a version, not {value:?}")))?;
                since = Some(value);
            }
            Some(("wait", value)) => {
                wait = Some(
                    config::parse_duration(value).map_err(|why| bad(format!("`wait`: {why}")))?,
                )
            }
            _ => return Err(bad(format!("{pair:?} is not known; write since=VERSION&wait=30s"))),
        }
    }
    match (since, wait) {
        (Some(since), wait) => {
            let wait = wait.unwrap_or(Duration::ZERO).min(WAIT_MAX);
            Ok((!wait.is_zero()).then_some(Waiting { since, wait }))
        }
        (None, None) => Ok(None),
        (None, Some(_)) => Err(bad("`wait` needs `since`, the version that is known".into())),
    }
}
