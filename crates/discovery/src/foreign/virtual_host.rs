//! `VIRTUAL_HOST`, `VIRTUAL_PORT` and `VIRTUAL_PATH`, as nginx-proxy made them usual.

use super::Translation;
use crate::Container;

pub(super) fn translate(container: &Container, translation: &mut Translation) {
    let variable = |name: &str| container.environment.get(name).map(|text| text.trim());
    let Some(hosts) = variable("VIRTUAL_HOST").filter(|hosts| !hosts.is_empty()) else { return };
    translation.concerned = true;
    let path = variable("VIRTUAL_PATH").unwrap_or("/").trim_end_matches('/');
    let mut routes = 0;
    for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        if host.starts_with('~') || host.ends_with('*') {
            let note = format!("VIRTUAL_HOST: {host} is a pattern that is not understood");
            translation.note(note);
            continue;
        }
        // A port behind a host names another port of the same container.
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        translation.set(&format!("routes.v{routes}.host"), host);
        if !path.is_empty() {
            translation.set(&format!("routes.v{routes}.path"), format!("{path}/*"));
        }
        routes += 1;
    }
    if routes == 0 {
        translation.unreachable = true;
    }
    if let Some(port) = variable("VIRTUAL_PORT").filter(|port| !port.is_empty()) {
        translation.set("port", port);
    }
    const UNDERSTOOD: [&str; 3] = ["VIRTUAL_HOST", "VIRTUAL_PORT", "VIRTUAL_PATH"];
    for (name, value) in &container.environment {
        let default = name == "VIRTUAL_PROTO" && value == "http";
        if !UNDERSTOOD.contains(&name.as_str()) && !default {
            translation.note(format!("{name} is not understood"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(environment: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let pairs = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let container = Container { environment: pairs.collect(), ..Container::default() };
        let mut translation = Translation::default();
        translate(&container, &mut translation);
        let labels = translation.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let unreachable = translation.unreachable.then(|| "unreachable".to_owned());
        (labels.chain(unreachable).collect(), translation.notes)
    }

    #[test]
    fn hosts_port_and_path() {
        let (labels, notes) = translated(&[
            ("VIRTUAL_HOST", "a.example, *.b.example"),
            ("VIRTUAL_PORT", "5000"),
            ("VIRTUAL_PATH", "/api/"),
        ]);
        assert_eq!(
            labels,
            [
                "evenkeel.port=5000",
                "evenkeel.routes.v0.host=a.example",
                "evenkeel.routes.v0.path=/api/*",
                "evenkeel.routes.v1.host=*.b.example",
                "evenkeel.routes.v1.path=/api/*",
            ]
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        assert_eq!(translated(&[("VIRTUAL_PORT", "80")]), (vec![], vec![]));
        let (labels, notes) = translated(&[("VIRTUAL_HOST", "~^a.*"), ("VIRTUAL_PROTO", "uwsgi")]);
        assert_eq!(labels, ["unreachable"]);
        assert_eq!(notes.len(), 2);
    }
}
