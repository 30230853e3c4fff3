//! Server-sent events (WHATWG HTML, section 9.2): each change of a service as a whole list, with
//! its version as the event's id, so that who comes back with `Last-Event-ID` gets nothing twice.

use std::time::Duration;

use admin::Answer;
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Call;
use super::watching::{GATHER, place};

/// A comment after so much silence, so that both sides notice when the other is gone, and that
/// middle-men do not take the stream for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader. It gets the newest list when it has room again; what lies
/// between is left out.
const EVENTS: usize = 1;

/// The events, as a body without end.
pub(super) fn stream(call: &Call) -> Result<Answer, Answer> {
    let known = call.headers.get("last-event-id");
    let mut known: Option<u64> = match known.map(|id| id.to_str().unwrap_or_default().parse()) {
        None => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => {
            let message = "`Last-Event-ID` must be the version of an event that came before";
            return Err(Answer::error(StatusCode::BAD_REQUEST, message));
        }
    };
    let place = place(call)?;
    let (keeper, service) = (call.keeper.clone(), call.names[0].clone());
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        let _place = place;
        let mut versions = keeper.watch(&service);
        let mut preserving = None;
        loop {
            versions.mark_unchanged();
            // Before the list is made, so that a slow reader gets the newest.
            let Ok(room) = sender.reserve().await else { return };
            let list = keeper.list(&service);
            if known != Some(list.version) || preserving != Some(list.preserving) {
                known = Some(list.version);
                preserving = Some(list.preserving);
                // Text, numbers, and maps with text as keys: this cannot fail.
                let json = serde_json::to_string(&list).unwrap_or_default();
                let id = list.version;
                room.send(format!("id: {id}\nevent: instances\ndata: {json}\n\n").into());
            } else {
                drop(room);
            }
            tokio::select! {
                () = sender.closed() => return,
                changed = timeout(SILENCE, versions.changed()) => match changed {
                    Ok(Ok(())) => sleep(GATHER).await,
                    Ok(Err(_)) => return,
                    // A reader that is slow needs no sign of life.
                    Err(_) => drop(sender.try_send(Bytes::from_static(b": still here\n\n"))),
                }
            }
        }
    });
    Ok(Answer::stream("text/event-stream", receiver))
}
