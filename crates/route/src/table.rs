//! All routes of a listener, sorted once so that a request finds the most specific one.

use crate::{
    Request, RouteError, host,
    rule::{Host, Path, Rule, path_of},
    tree::{Forest, Map, NodeId, RuleRange},
};
use model::spec::RouteSpec;

/// Immutable; share it in an `Arc`, and build another when the routes change.
#[derive(Clone, Debug)]
pub struct Table {
    /// From the most to the least specific. Rules with the same host and the same exact path or
    /// prefix stand side by side, and so do the regexes of a host: [`RuleRange`]s point here.
    rules: Vec<Rule>,
    exact_hosts: Map<Site>,
    suffix_hosts: Map<Site>,
    /// Bytes of the longest suffix: longer ones need no look-up.
    suffix_len_max: usize,
    any_host: Option<Site>,
    forest: Forest,
}

/// The routes of one host pattern.
#[derive(Clone, Debug)]
struct Site {
    /// Exact paths and prefixes.
    root: NodeId,
    regexes: RuleRange,
}

/// What [`Table::explain`] says about one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Among the specs given to [`Table::build`].
    pub index: usize,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Matched,
    /// With the first reason, for a person.
    Missed(String),
}

impl Table {
    pub fn build(routes: &[RouteSpec]) -> Result<Self, RouteError> {
        let mut rules = Vec::with_capacity(routes.len());
        for (index, spec) in routes.iter().enumerate() {
            rules.push(Rule::new(index, spec).map_err(|defect| RouteError { index, defect })?);
        }
        rules.sort_by(|a, b| a.specificity().cmp(&b.specificity()));

        let mut table = Self {
            rules: Vec::new(),
            exact_hosts: Map::default(),
            suffix_hosts: Map::default(),
            suffix_len_max: 0,
            any_host: None,
            forest: Forest::default(),
        };
        let mut start = 0;
        for same_host in rules.chunk_by(|a, b| a.host == b.host) {
            let site = plant(&mut table.forest, same_host, start);
            match &same_host[0].host {
                Host::Exact(name) => {
                    table.exact_hosts.insert(name.as_slice().into(), site);
                }
                Host::Suffix(name) => {
                    table.suffix_len_max = table.suffix_len_max.max(name.len());
                    table.suffix_hosts.insert(name.as_slice().into(), site);
                }
                Host::Any => table.any_host = Some(site),
            }
            start += same_host.len() as u32;
        }
        table.forest.link_prefixes();
        table.rules = rules;
        Ok(table)
    }

    /// The position, among the specs given to [`build`](Self::build), of the most specific route
    /// of which every matcher holds.
    pub fn find(&self, request: &dyn Request) -> Option<usize> {
        self.find_counted(request, &mut 0)
    }

    /// `steps` counts the look-ups and the rules tried.
    fn find_counted(&self, request: &dyn Request, steps: &mut usize) -> Option<usize> {
        let path = path_of(request);
        if !self.exact_hosts.is_empty() || !self.suffix_hosts.is_empty() {
            let mut buffer = [0; host::LEN_MAX];
            let name = host::normalise(request.host(), &mut buffer).unwrap_or_default();
            *steps += 1;
            let found = self.exact_hosts.get(name);
            if let Some(index) = found.and_then(|site| self.find_in(site, path, request, steps)) {
                return Some(index);
            }
            let suffixes = host::suffixes(name).filter(|s| s.len() <= self.suffix_len_max);
            for suffix in suffixes {
                *steps += 1;
                let found = self.suffix_hosts.get(suffix);
                if let Some(index) = found.and_then(|site| self.find_in(site, path, request, steps))
                {
                    return Some(index);
                }
            }
        }
        self.find_in(self.any_host.as_ref()?, path, request, steps)
    }

    fn find_in(
        &self,
        site: &Site,
        path: &[u8],
        request: &dyn Request,
        steps: &mut usize,
    ) -> Option<usize> {
        let found = self.forest.find(site.root, path, steps);
        let index = self.first_match(found.exact, request, steps);
        if index.is_some() {
            return index;
        }
        for rule in &self.rules[as_usize(site.regexes.clone())] {
            *steps += 1;
            if matches!(&rule.path, Path::Regex(regex) if regex.is_match(path))
                && rule.miss(request).is_none()
            {
                return Some(rule.index);
            }
        }
        self.forest.prefixes(found.node).find_map(|prefix| self.first_match(prefix, request, steps))
    }

    fn first_match(
        &self,
        range: RuleRange,
        request: &dyn Request,
        steps: &mut usize,
    ) -> Option<usize> {
        let rule = self.rules[as_usize(range)].iter().find(|rule| {
            *steps += 1;
            rule.miss(request).is_none()
        })?;
        Some(rule.index)
    }

    /// Every route from the most specific down to the one that [`find`](Self::find) returns, with
    /// the reason why it was not taken. For people: it tries all routes one after the other.
    pub fn explain(&self, request: &dyn Request) -> Vec<Considered> {
        let mut considered = Vec::new();
        for rule in &self.rules {
            let verdict = rule.explain(request).map_or(Verdict::Matched, Verdict::Missed);
            let is_match = verdict == Verdict::Matched;
            considered.push(Considered { index: rule.index, verdict });
            if is_match {
                break;
            }
        }
        considered
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Enters the rules of one host, which stand in the table from `start` on.
fn plant(forest: &mut Forest, rules: &[Rule], start: u32) -> Site {
    let mut site = Site { root: forest.plant(), regexes: 0..0 };
    let mut start = start;
    for same_path in rules.chunk_by(|a, b| is_same_path(&a.path, &b.path)) {
        let range = start..start + same_path.len() as u32;
        start = range.end;
        match &same_path[0].path {
            Path::Exact(path) => forest.set_exact(site.root, path, range),
            Path::Regex(_) => site.regexes = range,
            Path::Prefix(path) => forest.set_prefix(site.root, path, range),
        }
    }
    site
}

/// Regexes are one group: they are tried one after the other.
fn is_same_path(a: &Path, b: &Path) -> bool {
    match (a, b) {
        (Path::Exact(a), Path::Exact(b)) | (Path::Prefix(a), Path::Prefix(b)) => a == b,
        (Path::Regex(_), Path::Regex(_)) => true,
        _ => false,
    }
}

fn as_usize(range: RuleRange) -> std::ops::Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests;
