//! The reporter of Lars (TCP 7779): agents of Lars tell what they count of each host. The last
//! word of each is kept, for the admin API; nobody is balanced by it, as in the original.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use model::status::{LarsReportStatus, LarsReports};
use wire::lars::{CallResult, Host, Key, Message};

use crate::counts::Counts;
use crate::lars::stream::{self, Frames};
use crate::terms::Terms;

/// Of a key, a host and a caller there is one word; of more than this the new are not kept: about
/// 2 MiB.
const WORDS_MAX: usize = 20_000;

/// What was told, by key, host and caller (an agent's number for itself).
#[derive(Default)]
pub(crate) struct Told(Mutex<Words>);

#[derive(Default)]
struct Words {
    latest: BTreeMap<(Key, Host, i32), (CallResult, u32)>,
    dropped: u64,
}

pub(crate) async fn serve(
    listener: std::net::TcpListener,
    terms: Arc<ArcSwap<Terms>>,
    counts: Arc<Counts>,
    told: Arc<Told>,
) {
    stream::accept(listener, terms, counts, |frames| listen(frames, told.clone())).await;
}

async fn listen(mut frames: Frames, told: Arc<Told>) -> io::Result<()> {
    while let Some(message) = frames.next().await? {
        let Message::ReportStatusRequest { key, caller, results, ts } = message else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        told.words().note(key, caller, &results, ts);
    }
    Ok(())
}

impl Told {
    fn words(&self) -> MutexGuard<'_, Words> {
        // A panic cannot leave it half changed: each word is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> LarsReports {
        let words = self.words();
        let latest = words.latest.iter().filter_map(|((key, host, caller), (result, unix_s))| {
            Some(LarsReportStatus {
                modid: key.modid,
                cmdid: key.cmdid,
                host: host.address()?.into(),
                caller: *caller,
                succ: result.succ,
                err: result.err,
                overload: result.overload,
                unix_s: *unix_s,
            })
        });
        LarsReports { latest: latest.collect(), dropped: words.dropped }
    }
}

impl Words {
    fn note(&mut self, key: Key, caller: i32, results: &[CallResult], ts: u32) {
        for result in results {
            let place = (key, result.host, caller);
            if self.latest.len() >= WORDS_MAX && !self.latest.contains_key(&place) {
                self.dropped += 1;
                continue;
            }
            self.latest.insert(place, (*result, ts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_is_kept_within_bounds() {
        let told = Told::default();
        let key = Key { modid: 1, cmdid: 2 };
        let word = |port, succ| {
            let host = Host { ip: 0x7f00_0001, port };
            CallResult { host, succ, err: 1, overload: false }
        };
        told.words().note(key, 3, &[word(80, 5), word(81, 6)], 10);
        told.words().note(key, 3, &[word(80, 7)], 11);
        told.words().note(key, 4, &[word(80, 8), word(-1, 9)], 12);
        let status = told.status();
        let shown: Vec<_> = status
            .latest
            .iter()
            .map(|r| (r.host.to_string(), r.caller, r.succ, r.unix_s))
            .collect();
        assert_eq!(
            shown,
            [
                ("127.0.0.1:80".to_owned(), 3, 7, 11),
                ("127.0.0.1:80".to_owned(), 4, 8, 12),
                ("127.0.0.1:81".to_owned(), 3, 6, 10),
            ]
        );
        let many: Vec<CallResult> = (0..WORDS_MAX as i32).map(|port| word(port, 1)).collect();
        told.words().note(key, 9, &many, 13);
        assert_eq!(told.words().latest.len(), WORDS_MAX);
        assert_eq!(told.status().dropped, 4);
        told.words().note(key, 3, &[word(80, 70)], 14);
        assert!(
            told.status().latest.iter().any(|r| (r.host.port(), r.caller, r.succ) == (80, 3, 70))
        );
    }
}
