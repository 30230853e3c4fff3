//! All routes of a listener, sorted once so that a request finds the most specific one.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Request, RouteDefect, RouteError, host,
    rule::{Host, Order, Rule, path_of},
    site::{Site, Sites},
};
use model::spec::{HostPattern, RouteSpec};

/// Immutable where it is read; share it in an `Arc`. A copy shares all hosts, and
/// [`Table::set_added`] makes anew what concerns one host only, so that a change costs by the routes
/// of its host. `R` is what a route is to its maker; it is handed back by [`Table::find`].
#[derive(Clone, Debug)]
pub struct Table<R = usize> {
    exact_hosts: Sites<R>,
    suffix_hosts: Sites<R>,
    /// How many suffixes of so many bytes there are.
    suffix_lens: BTreeMap<usize, usize>,
    /// The longest: longer ones need no look-up.
    suffix_len_max: usize,
    any_host: Option<Arc<Site<R>>>,
    len: usize,
}

/// What [`Table::explain`] says about one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered<'a, R = usize> {
    pub route: &'a R,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Matched,
    /// With the first reason, for a person.
    Missed(String),
}

impl Table {
    /// Of routes that are called by their positions.
    pub fn build(routes: &[RouteSpec]) -> Result<Self, RouteError> {
        Self::of(routes.iter().enumerate().map(|(index, spec)| (spec, index)), None)
    }
}

impl<R> Table<R> {
    /// `last` comes after all that are equally specific, those added later among them.
    ///
    /// # Errors
    /// With the position of the first route that cannot be.
    pub fn of<'a>(
        routes: impl IntoIterator<Item = (&'a RouteSpec, R)>,
        last: Option<(&'a RouteSpec, R)>,
    ) -> Result<Self, RouteError> {
        let mut rules = Vec::new();
        for (index, (spec, route)) in routes.into_iter().enumerate() {
            let rule = Rule::new(Order::Built(index), spec, route);
            rules.push(rule.map_err(|defect| RouteError { index, defect })?);
        }
        if let Some((spec, route)) = last {
            let index = rules.len();
            let rule = Rule::new(Order::Last, spec, route);
            rules.push(rule.map_err(|defect| RouteError { index, defect })?);
        }
        rules.sort_by(|a, b| a.specificity().cmp(&b.specificity()));

        let mut table = Self::default();
        let mut rules = rules.into_iter().peekable();
        while let Some(first) = rules.next() {
            let host = first.host.clone();
            let mut same_host = vec![first];
            while let Some(rule) = rules.next_if(|rule| rule.host == host) {
                same_host.push(rule);
            }
            table.put(host, same_host);
        }
        Ok(table)
    }

    /// The position, or whatever it was given as, of the most specific route of which every matcher
    /// holds.
    pub fn find(&self, request: &dyn Request) -> Option<&R> {
        self.find_counted(request, &mut 0)
    }

    /// `steps` counts the look-ups and the rules tried.
    fn find_counted(&self, request: &dyn Request, steps: &mut usize) -> Option<&R> {
        let path = path_of(request);
        if !self.exact_hosts.is_empty() || !self.suffix_hosts.is_empty() {
            let mut buffer = [0; host::LEN_MAX];
            let name = host::normalise(request.host(), &mut buffer).unwrap_or_default();
            *steps += 1;
            let found = self.exact_hosts.get(name);
            if let Some(route) = found.and_then(|site| site.find(path, request, steps)) {
                return Some(route);
            }
            let suffixes = host::suffixes(name).filter(|s| s.len() <= self.suffix_len_max);
            for suffix in suffixes {
                *steps += 1;
                let found = self.suffix_hosts.get(suffix);
                if let Some(route) = found.and_then(|site| site.find(path, request, steps)) {
                    return Some(route);
                }
            }
        }
        self.any_host.as_ref()?.find(path, request, steps)
    }

    /// Every route from the most specific down to the one that [`find`](Self::find) returns, with
    /// the reason why it was not taken. For people: it tries all routes one after the other.
    pub fn explain(&self, request: &dyn Request) -> Vec<Considered<'_, R>> {
        let sites = self.exact_hosts.iter().chain(self.suffix_hosts.iter()).chain(&self.any_host);
        let mut rules: Vec<&Rule<R>> = sites.flat_map(|site| site.rules()).collect();
        rules.sort_by(|a, b| a.specificity().cmp(&b.specificity()));
        let mut considered = Vec::new();
        for rule in rules {
            let verdict = rule.explain(request).map_or(Verdict::Matched, Verdict::Missed);
            let is_match = verdict == Verdict::Matched;
            considered.push(Considered { route: &rule.route, verdict });
            if is_match {
                break;
            }
        }
        considered
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn site(&self, host: &Host) -> Option<&Site<R>> {
        match host {
            Host::Exact(name) => self.exact_hosts.get(name),
            Host::Suffix(name) => self.suffix_hosts.get(name),
            Host::Any => self.any_host.as_deref(),
        }
    }

    /// The rules of a host, in place of those that it had.
    fn put(&mut self, host: Host, rules: Vec<Rule<R>>) {
        let former = self.site(&host).map(|site| site.rules().len());
        self.len = self.len + rules.len() - former.unwrap_or(0);
        if let Host::Suffix(name) = &host {
            let count = self.suffix_lens.entry(name.len()).or_default();
            *count = *count + usize::from(!rules.is_empty()) - usize::from(former.is_some());
            if *count == 0 {
                self.suffix_lens.remove(&name.len());
            }
            self.suffix_len_max = self.suffix_lens.last_key_value().map_or(0, |(len, _)| *len);
        }
        let sites = match &host {
            Host::Exact(_) => &mut self.exact_hosts,
            Host::Suffix(_) => &mut self.suffix_hosts,
            Host::Any => {
                let site = (!rules.is_empty()).then(|| Arc::new(Site::new(host, rules)));
                self.any_host = site;
                return;
            }
        };
        if rules.is_empty() {
            sites.remove(host.name());
        } else {
            sites.insert(Site::new(host, rules));
        }
    }
}

impl<R: Clone> Table<R> {
    /// What a host has beside the routes that the table was built from, in place of what was added
    /// for it before. They come after those that are equally specific. Routes of another host are
    /// left out.
    ///
    /// # Errors
    /// When one of them cannot be; then nothing has changed.
    pub fn set_added<'a>(
        &mut self,
        host: Option<&HostPattern>,
        added: impl IntoIterator<Item = (&'a RouteSpec, R)>,
    ) -> Result<(), RouteDefect> {
        let host = Host::new(host)?;
        let former = self.site(&host).map(Site::rules).unwrap_or_default();
        let built = former.iter().filter(|rule| !matches!(rule.order, Order::Added(_)));
        let mut rules: Vec<Rule<R>> = built.cloned().collect();
        for (index, (spec, route)) in added.into_iter().enumerate() {
            let rule = Rule::new(Order::Added(index), spec, route)?;
            if rule.host == host {
                rules.push(rule);
            }
        }
        self.put(host, rules);
        Ok(())
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            exact_hosts: Sites::default(),
            suffix_hosts: Sites::default(),
            suffix_lens: BTreeMap::new(),
            suffix_len_max: 0,
            any_host: None,
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests;
