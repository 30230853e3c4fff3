//! The routes of one host pattern, and all such patterns by name: what a table shares with the one
//! that it was made from.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use crate::{
    Request,
    rule::{Host, Path, Rule},
    tree::{Forest, NodeId, RuleRange},
};

/// The routes of one host pattern, from the most to the least specific.
#[derive(Clone, Debug)]
pub(crate) struct Site<R> {
    pub(crate) host: Host,
    /// Rules with the same exact path or prefix stand side by side, and so do the regexes:
    /// [`RuleRange`]s point here.
    rules: Vec<Rule<R>>,
    /// Exact paths and prefixes.
    paths: Forest,
    root: NodeId,
    regexes: RuleRange,
}

impl<R> Site<R> {
    /// All rules are of this host; in any order.
    pub(crate) fn new(host: Host, mut rules: Vec<Rule<R>>) -> Self {
        rules.sort_by(|a, b| a.specificity().cmp(&b.specificity()));
        let mut paths = Forest::default();
        let (root, mut regexes) = (paths.plant(), 0..0);
        let mut start = 0;
        for same_path in rules.chunk_by(|a, b| is_same_path(&a.path, &b.path)) {
            let range = start..start + same_path.len() as u32;
            start = range.end;
            match &same_path[0].path {
                Path::Exact(path) => paths.set_exact(root, path, range),
                Path::Regex(_) => regexes = range,
                Path::Prefix(path) => paths.set_prefix(root, path, range),
            }
        }
        paths.link_prefixes();
        Self { host, rules, paths, root, regexes }
    }

    pub(crate) fn rules(&self) -> &[Rule<R>] {
        &self.rules
    }

    /// `steps` counts the look-ups and the rules tried.
    pub(crate) fn find(&self, path: &[u8], request: &dyn Request, steps: &mut usize) -> Option<&R> {
        let found = self.paths.find(self.root, path, steps);
        let route = self.first_match(found.exact, request, steps);
        if route.is_some() {
            return route;
        }
        for rule in &self.rules[as_usize(self.regexes.clone())] {
            *steps += 1;
            if matches!(&rule.path, Path::Regex(regex) if regex.is_match(path))
                && rule.miss(request).is_none()
            {
                return Some(&rule.route);
            }
        }
        self.paths.prefixes(found.node).find_map(|prefix| self.first_match(prefix, request, steps))
    }

    fn first_match(
        &self,
        range: RuleRange,
        request: &dyn Request,
        steps: &mut usize,
    ) -> Option<&R> {
        let rule = self.rules[as_usize(range)].iter().find(|rule| {
            *steps += 1;
            rule.miss(request).is_none()
        })?;
        Some(&rule.route)
    }
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

/// Sites by the name of their host: a hash table in pieces, of which a copy shares all that is not
/// changed.
#[derive(Debug)]
pub(crate) struct Sites<R> {
    /// A power of two of them, or none; by the low bits of the names' hashes.
    buckets: Vec<Arc<Bucket<R>>>,
    len: usize,
}

/// With the hashes of their names.
type Bucket<R> = Vec<(u64, Arc<Site<R>>)>;

/// Sites of a bucket, on average at most. A copy of the table counts up one reference for each
/// bucket; a change copies one bucket.
const BUCKET: usize = 8;

impl<R> Sites<R> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Site<R>>> {
        self.buckets.iter().flat_map(|bucket| bucket.iter().map(|(_, site)| site))
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Site<R>> {
        if self.buckets.is_empty() {
            return None;
        }
        let hash = hash(name);
        let bucket = &self.buckets[self.bucket(hash)];
        let is = |(other, site): &&(u64, Arc<Site<R>>)| *other == hash && site.host.name() == name;
        bucket.iter().find(is).map(|(_, site)| &**site)
    }

    /// In place of the one of this name, if there is one.
    pub(crate) fn insert(&mut self, site: Site<R>) {
        self.remove(site.host.name());
        if self.len >= self.buckets.len() * BUCKET {
            self.grow();
        }
        let hash = hash(site.host.name());
        let bucket = self.bucket(hash);
        Arc::make_mut(&mut self.buckets[bucket]).push((hash, Arc::new(site)));
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.get(name).is_none() {
            return;
        }
        let hash = hash(name);
        let bucket = self.bucket(hash);
        let bucket = Arc::make_mut(&mut self.buckets[bucket]);
        bucket.retain(|(other, site)| *other != hash || site.host.name() != name);
        self.len -= 1;
    }

    fn grow(&mut self) {
        let count = (self.buckets.len() * 2).max(1);
        let mut buckets: Vec<Bucket<R>> = Vec::new();
        buckets.resize_with(count, Vec::new);
        for (hash, site) in self.buckets.iter().flat_map(|bucket| bucket.iter()) {
            buckets[*hash as usize & (count - 1)].push((*hash, Arc::clone(site)));
        }
        self.buckets = buckets.into_iter().map(Arc::new).collect();
    }
}

impl<R> Default for Sites<R> {
    fn default() -> Self {
        Self { buckets: Vec::new(), len: 0 }
    }
}

impl<R> Clone for Sites<R> {
    fn clone(&self) -> Self {
        Self { buckets: self.buckets.clone(), len: self.len }
    }
}

/// Names come from the configuration and from labels, which only they write who could do anything
/// with the engine; requests are only looked up. So nobody outside can choose colliding ones.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}
