//! The route service of Lars (its `lars_dns`, TCP 7778): who asks for the hosts of a key is told
//! them, and told again whenever they change, until the connection ends. Of a key that stands for
//! no service there are none, which makes an agent of Lars forget it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use wire::lars::{Host, Key, Message};

use crate::counts::Counts;
use crate::lars::hosts;
use crate::lars::stream::{self, Frames};
use crate::terms::Terms;

/// How often changes are looked for, as in the original.
const LOOK: Duration = Duration::from_secs(1);

/// Keys that one connection may follow; it ends with the next one.
const FOLLOWED_MAX: usize = 4096;

/// The hosts of all keys that stand for a service.
type Routes = BTreeMap<Key, Vec<Host>>;

pub(crate) async fn serve(
    listener: std::net::TcpListener,
    terms: Arc<ArcSwap<Terms>>,
    counts: Arc<Counts>,
) {
    let routes = watch::Sender::new(Routes::new());
    let told = routes.subscribe();
    let accepting = stream::accept(listener, terms.clone(), counts, |frames| {
        follow(frames, terms.clone(), told.clone())
    });
    tokio::join!(accepting, publish(routes, &terms));
}

/// Services are looked at once for all connections, and only while there is one.
async fn publish(routes: watch::Sender<Routes>, terms: &ArcSwap<Terms>) {
    loop {
        tokio::time::sleep(LOOK).await;
        // One receiver is the accepting side's.
        if routes.receiver_count() > 1 {
            let now = all(&terms.load());
            routes.send_if_modified(|before| {
                let differs = *before != now;
                *before = now;
                differs
            });
        }
    }
}

fn all(terms: &Terms) -> Routes {
    terms.keys.iter().map(|(key, service)| (*key, hosts(service))).collect()
}

async fn follow(
    mut frames: Frames,
    terms: Arc<ArcSwap<Terms>>,
    mut routes: watch::Receiver<Routes>,
) -> io::Result<()> {
    // What the peer was told last.
    let mut followed = Routes::new();
    loop {
        tokio::select! {
            message = frames.next() => match message? {
                None => return Ok(()),
                Some(Message::GetRouteRequest(key)) => {
                    let hosts = terms.load().keys.get(&key).map(|s| hosts(s)).unwrap_or_default();
                    followed.insert(key, hosts.clone());
                    if followed.len() > FOLLOWED_MAX {
                        return Err(io::Error::other("too many keys"));
                    }
                    frames.send(&Message::GetRouteResponse(key, hosts)).await?;
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            },
            changed = routes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let changes = {
                    let routes = routes.borrow_and_update();
                    changes(&mut followed, &routes)
                };
                for (key, hosts) in changes {
                    frames.send(&Message::GetRouteResponse(key, hosts)).await?;
                }
            }
        }
    }
}

/// What is followed and differs, which counts as told from here on.
fn changes(followed: &mut Routes, routes: &Routes) -> Vec<(Key, Vec<Host>)> {
    let mut changes = Vec::new();
    for (key, told) in followed {
        let now = routes.get(key).map_or(&[][..], Vec::as_slice);
        if told != now {
            *told = now.to_vec();
            changes.push((*key, now.to_vec()));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told_again() {
        let key = |cmdid| Key { modid: 1, cmdid };
        let host = |port| Host { ip: 1, port };
        let mut followed: Routes =
            [(key(1), vec![host(1)]), (key(2), vec![host(2)]), (key(3), Vec::new())].into();
        let routes: Routes =
            [(key(1), vec![host(1)]), (key(3), vec![host(3)]), (key(4), vec![host(4)])].into();
        let expected = vec![(key(2), Vec::new()), (key(3), vec![host(3)])];
        assert_eq!(changes(&mut followed, &routes), expected);
        assert_eq!(changes(&mut followed, &routes), []);
    }
}
