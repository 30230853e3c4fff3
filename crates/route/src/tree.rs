//! The exact paths and prefixes of all hosts, as one forest of path segments.
//!
//! A path is walked once, segment by segment, no deeper than some configured path goes with it.
//! The walk ends at the longest prefix; shorter ones are its ancestors.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher},
    ops::Range,
};

/// Keys come from the configuration and requests are only looked up, so nobody outside can choose
/// colliding keys; fixed hash keys keep a table the same from run to run.
pub(crate) type Map<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<DefaultHasher>>;

/// Positions in the table's sorted rules.
pub(crate) type RuleRange = Range<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

#[derive(Clone, Debug, Default)]
pub(crate) struct Forest {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    children: Map<NodeId>,
    /// The nearest ancestor that is a prefix.
    shorter_prefix: Option<NodeId>,
    exact: RuleRange,
    prefix: RuleRange,
}

/// Where the walk of a path ended.
pub(crate) struct Found {
    pub(crate) exact: RuleRange,
    /// The last node on the way; its prefix is the longest.
    pub(crate) node: NodeId,
}

impl Forest {
    /// The root of a new tree, for one host.
    pub(crate) fn plant(&mut self) -> NodeId {
        self.add(None)
    }

    fn add(&mut self, shorter_prefix: Option<NodeId>) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let children = Map::default();
        self.nodes.push(Node { children, shorter_prefix, exact: 0..0, prefix: 0..0 });
        id
    }

    pub(crate) fn set_exact(&mut self, root: NodeId, path: &[u8], rules: RuleRange) {
        let node = self.grow(root, path);
        self.nodes[node.0 as usize].exact = rules;
    }

    pub(crate) fn set_prefix(&mut self, root: NodeId, path: &[u8], rules: RuleRange) {
        let node = self.grow(root, path);
        self.nodes[node.0 as usize].prefix = rules;
    }

    fn grow(&mut self, root: NodeId, path: &[u8]) -> NodeId {
        let mut node = root;
        for segment in segments(path) {
            node = match self.nodes[node.0 as usize].children.get(segment) {
                Some(&child) => child,
                None => {
                    let child = self.add(None);
                    self.nodes[node.0 as usize].children.insert(segment.into(), child);
                    child
                }
            };
        }
        node
    }

    /// To be called once all paths are in: joins each node to the nearest prefix above it.
    pub(crate) fn link_prefixes(&mut self) {
        // Children come after their parents, so one pass from the roots down is enough.
        for parent in 0..self.nodes.len() {
            let node = &self.nodes[parent];
            let above = if node.prefix.is_empty() {
                node.shorter_prefix
            } else {
                Some(NodeId(parent as u32))
            };
            let children: Vec<NodeId> = node.children.values().copied().collect();
            for child in children {
                self.nodes[child.0 as usize].shorter_prefix = above;
            }
        }
    }

    /// `steps` counts the look-ups.
    pub(crate) fn find(&self, root: NodeId, path: &[u8], steps: &mut usize) -> Found {
        let mut node = root;
        for segment in segments(path) {
            let children = &self.nodes[node.0 as usize].children;
            if children.is_empty() {
                return Found { exact: 0..0, node };
            }
            *steps += 1;
            match children.get(segment) {
                Some(&child) => node = child,
                None => return Found { exact: 0..0, node },
            }
        }
        Found { exact: self.nodes[node.0 as usize].exact.clone(), node }
    }

    /// The rules of all prefixes from `node` up to its root, longest first.
    pub(crate) fn prefixes(&self, node: NodeId) -> impl Iterator<Item = RuleRange> {
        let mut next = Some(node);
        std::iter::from_fn(move || {
            let node = &self.nodes[next?.0 as usize];
            next = node.shorter_prefix;
            Some(node.prefix.clone())
        })
    }
}

/// `a` and `b` of `/a/b`; an empty one of `/`; none of a path without a slash in front.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inside = path.strip_prefix(b"/");
    inside.into_iter().flat_map(|inside| inside.split(|&byte| byte == b'/'))
}
