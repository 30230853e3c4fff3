//! Services that exist because containers say so.

use model::spec::{DeclaredSpec, Protocol, RouteSpec, ServiceSpec};
use model::{ListenerName, ServiceName};

use super::{ONE_OFF, OUR_ENABLE, OUR_SERVICE, OURS, PROJECT, Picture, SERVICE};
use crate::foreign::{self, Translation};
use crate::{Container, Phase};

/// A service that exists by label.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub spec: ServiceSpec,
    /// Of two that want the same route, the one of the lower rank has it: it was there first.
    pub rank: (u64, i64),
    /// How each of its containers is to be reached, those alike once.
    pub ways: Vec<Way>,
}

/// Where a container wants to be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// `None`: the provider's listener, or, of another protocol than HTTP, the only one of it.
    pub listener: Option<ListenerName>,
    /// `None`: what the listener speaks.
    pub protocol: Option<Protocol>,
    pub routes: Vec<RouteSpec>,
    /// The routes stand there only because none was given.
    pub by_default: bool,
}

impl Picture {
    /// Works out what the service is that its containers declare. The one that was started last
    /// says how it is used, and all of them how it is reached: while one version replaces
    /// another, both can be.
    pub(super) fn declare(&mut self, name: &ServiceName) -> bool {
        let members = self.members.get(name).into_iter().flatten();
        let mut speakers: Vec<(&Container, &DeclaredSpec)> = members
            .filter_map(|id| self.containers.get(id))
            .filter_map(|known| Some((&known.container, known.declared()?)))
            .filter(|(_, (declared, _))| declared == name)
            .map(|(container, (_, spec))| (container, spec))
            .collect();
        speakers.sort_by_key(|(c, _)| (c.phase != Phase::Ended, c.started_at, &c.id));
        let declared = speakers.last().map(|(_, newest)| {
            let mut ways: Vec<Way> = Vec::new();
            for (_, spec) in speakers.iter().rev() {
                let way = Way {
                    listener: spec.listener.clone(),
                    protocol: spec.protocol,
                    routes: spec.routes.clone(),
                    by_default: spec.has_default_route(),
                };
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
            let rank = match self.declared.get(name) {
                Some(before) if self.synced => before.rank,
                _ if self.synced => (self.ranks + 1, 0),
                // Those that were there before us: by who was started first.
                _ => (0, speakers.iter().map(|(c, _)| c.started_at).min().unwrap_or(0)),
            };
            Declared { spec: newest.service.clone(), rank, ways }
        });
        if let Some(declared) = &declared {
            self.ranks = self.ranks.max(declared.rank.0);
        }
        let changed = self.declared.get(name) != declared.as_ref();
        match declared {
            Some(declared) => drop(self.declared.insert(name.clone(), declared)),
            None => drop(self.declared.remove(name)),
        }
        changed
    }

    /// What its labels say, if they say that it is a service.
    pub(super) fn said(
        &self,
        container: &Container,
        notes: &mut Vec<String>,
    ) -> Option<(ServiceName, DeclaredSpec)> {
        let label = |name: &str| container.labels.get(name).map(String::as_str);
        let project = label(PROJECT);
        if self.docker.compose_project.as_deref().is_some_and(|only| project != Some(only))
            || label(ONE_OFF) == Some("True")
        {
            return None;
        }
        let Translation { labels: translated, notes: not_understood, concerned, unreachable } =
            foreign::translate(container, self.docker.traefik_labels, self.docker.virtual_host);
        let mut labels = translated;
        let has_ours = container.labels.keys().any(|name| name.starts_with(OURS));
        let ours = container.labels.iter().filter(|(name, _)| name.starts_with(OURS));
        labels.extend(ours.map(|(name, value)| (name.clone(), value.clone())));
        let enabled = match labels.get(OUR_ENABLE).map(String::as_str) {
            Some("true") => true,
            Some("false") => return None,
            Some(other) => {
                notes.push(format!("label {OUR_ENABLE}: {other:?} is neither true nor false"));
                return None;
            }
            None => !labels.is_empty(),
        };
        let by_default = self.docker.exposed_by_default && !container.ports.is_empty();
        if concerned || enabled {
            notes.extend(not_understood);
        }
        if !enabled && !by_default || unreachable && !has_ours {
            return None;
        }
        let name = match (label(OUR_SERVICE), project.zip(label(SERVICE))) {
            (Some(name), _) => name.to_owned(),
            (None, Some((_, service))) if self.docker.compose_project.is_some() => {
                service.to_owned()
            }
            (None, Some((project, service))) => format!("{project}-{service}"),
            (None, None) => container.name.clone(),
        };
        match (self.read)(&name, &labels) {
            Ok(spec) => Some((ServiceName::new(name), spec)),
            Err(defects) => {
                notes.extend(defects);
                None
            }
        }
    }
}
