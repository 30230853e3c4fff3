//! What the store is told without being asked: leases of those that live, and tombstones of those
//! that left while it was away.

use std::sync::Arc;
use std::time::Duration;

use model::Instant;
use registry::Instance;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::info;

use crate::client::IDLE_MAX;
use crate::keeper::Keeper;

/// How often those that were heard of have their leases renewed: TTLs are seconds.
const SWEEP: Duration = Duration::from_secs(1);
/// Leases that are renewed at once, and tombstones that are written at once beside them.
const AT_ONCE: usize = IDLE_MAX;

/// Renews the leases of those that were heard of here, gives one to those that lost theirs and
/// live, and takes out those that left. Until the future is dropped.
pub(crate) async fn renew(keeper: Arc<Keeper>) {
    tokio::join!(renew_leases(&keeper), tell_leaves(&keeper));
}

async fn renew_leases(keeper: &Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut since = Instant::ZERO;
    loop {
        sleep(SWEEP).await;
        if store.lost().is_some() {
            continue; // what was heard meanwhile is renewed after it
        }
        let next = keeper.now();
        let heard = keeper.registry().heard_since(since);
        since = next;
        for (instance, held) in heard {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let keeper = Arc::clone(keeper);
            tokio::spawn(async move {
                renew_one(&keeper, &instance, held).await;
                drop(place);
            });
        }
        let registry = keeper.registry();
        let is_known = |service: &str, id: &str| registry.find(service, id, next).is_some();
        store.state().order.forget(next, is_known);
    }
}

/// Beside the renewals: after a time without the store there may be as many as [`LEAVES_MAX`], and
/// meanwhile those who live are not to lose their leases.
async fn tell_leaves(keeper: &Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    loop {
        sleep(SWEEP).await;
        let now = std::time::Instant::now();
        let leaves: Vec<(String, String)> = {
            let mut state = store.state();
            state.leaves.retain(|_, pending| pending.until > now);
            state.leaves.keys().cloned().collect()
        };
        // Ends with this future, and so with the registry.
        let mut under_way = JoinSet::new();
        for (service, id) in leaves {
            if store.lost().is_some() {
                break;
            }
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            let keeper = Arc::clone(keeper);
            under_way.spawn(async move { tell_leave(&keeper, service, id).await });
        }
        while under_way.join_next().await.is_some() {}
    }
}

async fn tell_leave(keeper: &Keeper, service: String, id: String) {
    let Some(store) = &keeper.store else { return };
    let is_back = keeper.registry().find(&service, &id, keeper.now()).is_some();
    let key = (service, id);
    // It may have been told, or come back, since.
    let pending = store.state().leaves.get(&key).copied();
    match pending {
        // One that registered again has not left.
        Some(_) if is_back => {
            store.state().leaves.remove(&key);
        }
        Some(pending) => store.leave(&key.0, &key.1, pending.of).await,
        None => {}
    }
}

async fn renew_one(keeper: &Keeper, instance: &Instance, held: bool) {
    let Some(store) = &keeper.store else { return };
    let renewed = match held {
        true => store.kind.renew(instance).await,
        false => Ok(false),
    };
    let outcome = match renewed {
        Ok(true) => Ok(()),
        Ok(false) => {
            let (service, id) = (&*instance.service, &*instance.id);
            // It may have left while we asked.
            let of = {
                let registry = keeper.registry();
                if registry.find(service, id, keeper.now()).is_none() {
                    return;
                }
                store.state().order.held_at(service, id)
            };
            info!("registry: {service}: {id} lost its lease and lives; it gets another");
            let put = store.write(instance, Some(of)).await;
            put.map(|number| {
                let Some(number) = number else { return }; // the watch tells what came after it
                let mut registry = keeper.registry();
                if registry.find(service, id, keeper.now()).is_some() {
                    // Without news it changes nothing but that it is held.
                    let now = keeper.now();
                    let _ = store.take(&mut registry, instance.clone(), number, now);
                    let _ = registry.heartbeat(service, id, now);
                }
            })
        }
        Err(why) => Err(why),
    };
    // The next heartbeat tries again, long before the lease ends.
    if let Err(why) = outcome {
        info!("registry: {}: the lease of {} is not renewed: {why}", instance.service, instance.id);
    }
}
