/// How much a registry takes. Beyond a limit a registration is refused and says which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Services with at least one instance; default 1,000.
    pub services: usize,
    /// Instances of all services together; default 20,000.
    pub instances: usize,
    /// Pairs of metadata that one instance may have; default 32. With the bounds of their sizes
    /// an instance has at most about 20 KiB.
    pub metadata: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { services: 1000, instances: 20_000, metadata: 32 }
    }
}
