//! The files that a configuration names: their paths, and what is wrong with what they hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Checked, Defect, Defects, Severity, Source, defect_at};
use model::spec::{CertificateFiles, DiscoverSpec, EndpointSource, SecretSpec, ServiceSpec, Spec};

use super::vocabulary;

/// Reads and checks a configuration, and the certificates, keys and CAs that it names. Relative
/// paths count from `directory`.
pub(crate) fn parse(source: &Source<'_>, directory: &Path) -> Result<Checked, Defects> {
    let mut checked = config::parse(source, &vocabulary())?;
    place(&mut checked.spec, directory);
    let mut defects: Vec<Defect> = tls::check(&checked.spec)
        .into_iter()
        .map(|fault| {
            let severity = match fault.severity {
                tls::Severity::Error => Severity::Error,
                tls::Severity::Warning => Severity::Warning,
            };
            defect_at(source, &fault.place, severity, &fault.message, &fault.help)
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
    let names_files = |service: &&Arc<ServiceSpec>| {
        let source = &service.source;
        service.tls.is_some()
            || service.affinity.is_some()
            || matches!(
                source,
                EndpointSource::Discover(
                    DiscoverSpec::File(_) | DiscoverSpec::Dns(_) | DiscoverSpec::Http(_)
                )
            )
    };
    let placed: Vec<ServiceSpec> =
        spec.services.values().filter(names_files).map(|service| (**service).clone()).collect();
    for mut service in placed {
        if let Some(tls) = &mut service.tls {
            tls.certificate.iter_mut().for_each(both);
            tls.ca.iter_mut().for_each(from_here);
        }
        let table = service.affinity.as_mut().and_then(|affinity| affinity.table_mut());
        if let Some(store) = table.and_then(|table| table.store.as_mut()) {
            store.tls.certificate.iter_mut().for_each(both);
            store.tls.ca.iter_mut().for_each(from_here);
            if let Some(SecretSpec::File(path)) = &mut store.password {
                from_here(path);
            }
        }
        match &mut service.source {
            EndpointSource::Discover(DiscoverSpec::File(file)) => from_here(&mut file.path),
            EndpointSource::Discover(DiscoverSpec::Dns(dns)) => from_here(&mut dns.resolv_conf),
            EndpointSource::Discover(DiscoverSpec::Http(http)) => {
                if let Some(tls) = &mut http.tls {
                    tls.certificate.iter_mut().for_each(both);
                    tls.ca.iter_mut().for_each(from_here);
                }
            }
            _ => {}
        }
        spec.services.insert(service.name.clone(), service);
    }
}
