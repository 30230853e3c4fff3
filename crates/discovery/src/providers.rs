//! The providers that are watched by a process of their own: one file and one line in
//! [`PROVIDERS`] each.

pub mod docker;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::Message;

/// What a watcher is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    pub socket: std::path::PathBuf,
    /// How often usage is asked for.
    pub statistics: Option<Duration>,
    /// For the chance in waits.
    pub seed: u64,
}

/// One provider.
pub struct Provider {
    /// As in `providers.NAME`.
    pub name: &'static str,
    pub summary: &'static str,
    /// Tells what there is until nobody listens any more.
    pub watch: fn(WatchOptions, mpsc::Sender<Message>) -> BoxFuture,
}

pub type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

pub static PROVIDERS: &[Provider] = &[docker::PROVIDER];

pub fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (at, provider) in PROVIDERS.iter().enumerate() {
            assert!(PROVIDERS[..at].iter().all(|other| other.name != provider.name));
            assert!(std::ptr::eq(find(provider.name).unwrap(), provider));
            assert!(!provider.summary.is_empty());
        }
        assert!(find("carrier pigeon").is_none());
    }
}
