//! Certificates in use: read again when their files change.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use model::spec::{AcmeSpec, ListenerSpec, Spec};
use model::status::CertificateStatus;
use proxy::Proxy;
use tls::LocalCa;
use tracing::{error, info, warn};

use super::Supervisor;

/// Certificates change every few weeks: nobody waits for a new one.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks after the files for as long as the supervisor lives, in a thread of its own: a file system
/// may hang.
pub(super) fn watch(supervisor: &Arc<Supervisor>) {
    let supervisor: Weak<Supervisor> = Arc::downgrade(supervisor);
    let thread = std::thread::Builder::new().name("tls-watch".into()).spawn(move || {
        let mut watch = tls::Watch::default();
        loop {
            std::thread::sleep(INTERVAL);
            let Some(proxy) = supervisor.upgrade().map(|supervisor| supervisor.proxy.clone())
            else {
                return;
            };
            let changed = watch.look(&proxy.tls_files());
            if !changed.is_empty() {
                reload(&proxy, &changed);
            }
        }
    });
    if let Err(error) = thread {
        warn!("certificates are not watched, only SIGHUP reads them again: {error}");
    }
}

pub(super) fn reload(proxy: &Proxy, files: &[PathBuf]) {
    for reloaded in proxy.reload_tls(files) {
        let of = reloaded.of;
        match reloaded.result {
            Ok(warnings) => {
                warnings.iter().for_each(|fault| warn!("{fault}"));
                info!("{of}: certificates read again");
            }
            Err(faults) => {
                let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
                error!("{of}: what was read before stays in use: {}", texts.join("; "));
            }
        }
    }
}

/// What is to be issued for the listeners of `spec`.
pub(super) fn wanted(spec: &Spec) -> Vec<AcmeSpec> {
    let tls = spec.listeners.values().filter_map(|listener| listener.tls.as_ref());
    tls.filter_map(|tls| tls.acme.clone()).collect()
}

impl Supervisor {
    /// All that listeners show or are to show, by listener.
    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        let mut all = self.proxy.certificates();
        let spec = Arc::clone(&self.state().spec);
        for listener in spec.listeners.values() {
            let acme = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref());
            let wanted = acme.map(|acme| self.acme.status(acme)).unwrap_or_default();
            all.extend(wanted.into_iter().map(|wanted| CertificateStatus {
                listener: listener.name.as_str().to_owned(),
                names: vec![wanted.domain],
                source: "acme".to_owned(),
                not_after_unix: wanted.not_after,
                acme: Some(wanted.status),
            }));
        }
        all.sort_by(|a, b| (&a.listener, &a.names).cmp(&(&b.listener, &b.names)));
        all
    }
}

/// How to make a system trust what is used for development, if any of `listeners` uses it.
pub(super) fn explain_trust(spec: &Spec) {
    let is_local = |listener: &ListenerSpec| {
        listener.tls.as_ref().is_some_and(|tls| !tls.self_signed.is_empty())
    };
    if !spec.listeners.values().any(is_local) {
        return;
    }
    if let Ok(ca) = LocalCa::open() {
        let path = ca.path().display();
        info!(
            "certificates for development are by the CA in {path}; to trust it: evenkeel trust; \
             or for one call: curl --cacert '{path}'"
        );
    }
}
