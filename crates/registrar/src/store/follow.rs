//! What the store tells, taken into the registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use discovery::Backoff;
use model::Instant;
use registry::{Change, Instance};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use super::order::Leaving;
use super::{All, Event, Leave, Shared};
use crate::keeper::Keeper;

/// Events of the store that wait to be taken; then the store waits.
const EVENTS: usize = 1024;

/// Keeps the registry as the store is, until the future is dropped.
pub(crate) async fn follow(keeper: Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    let (sender, mut events) = mpsc::channel(EVENTS);
    let watch = async {
        let mut backoff = Backoff::new(keeper.chance());
        loop {
            // What is told from now on is not older than this, unless the store counts anew.
            let highest = store.state().order.highest();
            let (ended, synced) = store.kind.watch(highest, &sender).await;
            if synced {
                backoff.reset();
            }
            if sender.send(Event::Lost(ended)).await.is_err() {
                return;
            }
            sleep(backoff.wait()).await;
        }
    };
    let take = async {
        while let Some(event) = events.recv().await {
            take(&keeper, store, event);
        }
    };
    tokio::join!(watch, take);
}

fn take(keeper: &Keeper, store: &Shared, event: Event) {
    let now = keeper.now();
    let is_news = !matches!(event, Event::Lost(_));
    match event {
        Event::Alive => {}
        Event::Lost(why) => {
            let name = store.name();
            let before = store.state().lost.replace(why.clone());
            if before.is_none() {
                warn!("registry: {name} is lost: {why}; all instances stay as they are");
                tell_all(keeper);
            }
        }
        Event::Synced(all) => sync(keeper, store, all, now),
        Event::Held(number, instance) => hold(keeper, store, number, *instance, now),
        Event::Left(leave) => left(keeper, store, &leave, now),
        Event::Gone { service, id, number } => {
            let mut registry = keeper.registry();
            if store.state().order.go(&service, &id, number, now) {
                registry.release(&service, &id, now);
            }
        }
    }
    if is_news {
        store.state().told_at = now;
        keeper.wake();
    }
}

fn sync(keeper: &Keeper, store: &Shared, all: All, now: Instant) {
    if all.counts_anew {
        let mut state = store.state();
        state.order.begin_anew();
        // Their numbers mean nothing any more: only where there is nothing they still leave.
        state.leaves.values_mut().for_each(|pending| pending.of = 0);
    }
    for leave in &all.left {
        left(keeper, store, leave, now);
    }
    let present: BTreeSet<(&str, &str)> =
        all.held.iter().map(|(_, i)| (&*i.service, &*i.id)).collect();
    let mut lost = 0;
    {
        let mut registry = keeper.registry();
        for held in registry.held() {
            let (service, id) = (&*held.service, &*held.id);
            if !present.contains(&(service, id))
                && store.state().order.go(service, id, all.number, now)
            {
                registry.release(service, id, now);
                lost += 1;
            }
        }
        if store.lost().is_some() {
            // Those whose lease ended before are given one by who hears them, now that it can.
            registry.begin_again(now);
        }
    }
    drop(present);
    info!(
        "registry: {} answers with {} instances; {lost} of ours have lost their lease there",
        store.name(),
        all.held.len(),
    );
    for (number, instance) in all.held {
        hold(keeper, store, number, instance, now);
    }
    let mut state = store.state();
    (state.lost, state.answered) = (None, true);
    drop(state);
    tell_all(keeper);
}

fn left(keeper: &Keeper, store: &Shared, leave: &Leave, now: Instant) {
    let Leave { service, id, number, of } = leave;
    let mut registry = keeper.registry();
    let change = match store.state().order.leave(service, id, *number, *of, now) {
        Leaving::Left => registry.deregister(service, id),
        // Whoever hears it puts it there again.
        Leaving::Released => {
            registry.release(service, id, now);
            None
        }
        Leaving::Late => None,
    };
    drop(registry);
    if let Some(change) = change {
        keeper.publish(service, &[change]);
    }
}

fn hold(keeper: &Keeper, store: &Shared, number: u64, instance: Instance, now: Instant) {
    let key = (instance.service.clone(), instance.id.clone());
    {
        let mut state = store.state();
        if let Some(pending) = state.leaves.get(&key) {
            // It left here while the store was away, and the store does not know yet.
            if number <= pending.of {
                return;
            }
            info!("registry: {}: {} came back through another balancer", key.0, key.1);
            state.leaves.remove(&key);
        }
    }
    let (service, id) = key;
    let held = store.take(&mut keeper.registry(), instance, number, now);
    match held {
        Ok(Some(registered)) if !registered.changes.is_empty() => {
            keeper.publish(&service, &registered.changes);
        }
        Ok(_) => {}
        Err(refusal) => warn!("registry: {service}: {id} of the store is left out: {refusal}"),
    }
}

/// Whether lists are up to date is part of each.
fn tell_all(keeper: &Keeper) {
    let services: Vec<String> =
        keeper.registry().services().map(|(name, ..)| name.to_owned()).collect();
    for service in services {
        keeper.publish(&service, &[] as &[Change]);
    }
}
