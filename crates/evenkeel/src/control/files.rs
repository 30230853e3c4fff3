//! The files that a configuration names: their paths, and what is wrong with what they hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Checked, Defect, Defects, Severity, Source, defect_at};
use model::spec::{CertificateFiles, DiscoverSpec, EndpointSource, SecretSpec, ServiceSpec, Spec};
use model::{Differing, ServiceName, SharedMap};

use super::vocabulary;

/// Reads and checks one configuration after the other, and the certificates, keys and CAs that they
/// name. What a text has in common with the last is not read again; files are.
pub(crate) struct Reader {
    texts: config::Reader,
    /// Relative paths count from here.
    directory: PathBuf,
    /// The services of the last text as it has them, and with their paths as they are used.
    read: SharedMap<ServiceName, ServiceSpec>,
    placed: SharedMap<ServiceName, ServiceSpec>,
    /// Of these, those whose TLS names files.
    secured: SharedMap<ServiceName, ServiceSpec>,
}

impl Reader {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            texts: config::Reader::new(vocabulary()),
            directory,
            read: SharedMap::new(),
            placed: SharedMap::new(),
            secured: SharedMap::new(),
        }
    }

    /// `name`: what messages call the text.
    pub(crate) fn read(&mut self, name: &str, text: &Arc<str>) -> Result<Checked, Defects> {
        let mut checked = self.texts.read(name, text)?;
        self.place(&mut checked.spec);
        let source = Source { name, text };
        let faults = tls::check(checked.spec.listeners.values(), self.secured.values());
        let mut defects: Vec<Defect> = faults
            .into_iter()
            .map(|fault| {
                let severity = match fault.severity {
                    tls::Severity::Error => Severity::Error,
                    tls::Severity::Warning => Severity::Warning,
                };
                defect_at(&source, &fault.place, severity, &fault.message, &fault.help)
            })
            .collect();
        let failed = defects.iter().any(|defect| defect.severity == Severity::Error);
        defects.append(&mut checked.warnings);
        defects.sort_by_key(|defect| (defect.line, defect.column));
        // One file may be named in several ways at one place.
        defects.dedup();
        if failed {
            return Err(Defects(defects));
        }
        checked.warnings = defects;
        Ok(checked)
    }

    fn place(&mut self, spec: &mut Spec) {
        place(spec, &self.directory);
        // Beside what there is, so that nothing half-made stays if this is interrupted.
        let (mut all, mut secured) = (self.placed.clone(), self.secured.clone());
        for differing in spec.services.differences(&self.read) {
            let (name, service) = match differing {
                Differing::Added(name, service) | Differing::Changed(name, _, service) => {
                    (name, service)
                }
                Differing::Removed(name, _) => {
                    all.remove(name.as_str());
                    secured.remove(name.as_str());
                    continue;
                }
            };
            let service = placed(service, &self.directory);
            secured.remove(name.as_str());
            if service.tls.is_some() {
                secured.insert(name.clone(), Arc::clone(&service));
            }
            all.insert(name.clone(), service);
        }
        self.read = std::mem::replace(&mut spec.services, all.clone());
        (self.placed, self.secured) = (all, secured);
    }
}

/// The paths of all but the services.
fn place(spec: &mut Spec, directory: &Path) {
    let from_here = |path: &mut PathBuf| *path = directory.join(&*path);
    let both = |files: &mut CertificateFiles| {
        from_here(&mut files.certificate);
        from_here(&mut files.key);
    };
    if let Some(socket) = spec.agent.as_mut().and_then(|agent| agent.socket.as_mut()) {
        from_here(socket);
    }
    for tls in spec.listeners.values_mut().filter_map(|listener| listener.tls.as_mut()) {
        tls.certificates.iter_mut().for_each(both);
        if let Some(acme) = &mut tls.acme {
            acme.ca.iter_mut().chain(&mut acme.store).for_each(from_here);
        }
        tls.client_auth.iter_mut().for_each(|auth| from_here(&mut auth.ca));
    }
}

/// A service with its paths; itself if it has none.
fn placed(service: &Arc<ServiceSpec>, directory: &Path) -> Arc<ServiceSpec> {
    let from_here = |path: &mut PathBuf| *path = directory.join(&*path);
    let names_files = service.tls.is_some()
        || service.affinity.is_some()
        || matches!(
            service.source,
            EndpointSource::Discover(
                DiscoverSpec::File(_) | DiscoverSpec::Dns(_) | DiscoverSpec::Http(_)
            )
        );
    if !names_files {
        return Arc::clone(service);
    }
    let mut service = (**service).clone();
    if let Some(tls) = &mut service.tls {
        *tls = std::mem::take(tls).placed(directory);
    }
    let table = service.affinity.as_mut().and_then(|affinity| affinity.table_mut());
    if let Some(store) = table.and_then(|table| table.store.as_mut()) {
        store.tls = std::mem::take(&mut store.tls).placed(directory);
        if let Some(SecretSpec::File(path)) = &mut store.password {
            from_here(path);
        }
    }
    match &mut service.source {
        EndpointSource::Discover(DiscoverSpec::File(file)) => from_here(&mut file.path),
        EndpointSource::Discover(DiscoverSpec::Dns(dns)) => from_here(&mut dns.resolv_conf),
        EndpointSource::Discover(DiscoverSpec::Http(http)) => {
            if let Some(tls) = &mut http.tls {
                *tls = std::mem::take(tls).placed(directory);
            }
        }
        _ => {}
    }
    Arc::new(service)
}
