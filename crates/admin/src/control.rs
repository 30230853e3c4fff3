use std::fmt;
use std::pin::Pin;

use model::status::{
    AgentStatus, CertificateStatus, DemandStatus, DiscoveryStatus, ListenerStatus, Metrics,
    RegistryStatus, ScalingStatus, ServiceStatus,
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the admin API shows and changes. The methods that are not futures answer at once.
pub trait Control: Send + Sync + 'static {
    fn services(&self) -> Vec<ServiceStatus>;
    /// One of them. What it costs should not follow how many there are.
    fn service(&self, name: &str) -> Option<ServiceStatus> {
        self.services().into_iter().find(|service| service.name == name)
    }
    fn listeners(&self) -> Vec<ListenerStatus>;
    /// The certificates that listeners show or are to show, by listener.
    fn certificates(&self) -> Vec<CertificateStatus>;
    /// Where endpoints are discovered; empty: nowhere.
    fn discovery(&self) -> Vec<DiscoveryStatus>;
    /// The registry that this process is, if it is one.
    fn registry(&self) -> Option<RegistryStatus>;
    /// The client-side agent; `None`: there is none.
    fn agent(&self) -> Option<AgentStatus>;
    /// What an autoscaler has told, the oldest first; a bounded number.
    fn scalings(&self) -> Vec<ScalingStatus>;
    /// Keeps what an autoscaler tells, and when that was (`unix_ms`; `None`: now); answers it as it is
    /// kept.
    fn note_scaling(
        &self,
        service: String,
        from: usize,
        to: usize,
        reason: String,
        unix_ms: Option<u64>,
    ) -> ScalingStatus;
    /// Services that sleep and are asked for. `after`: once somebody has asked since the answer of
    /// that number, or some seconds are over.
    fn demand(&self, after: Option<u64>) -> BoxFuture<'_, DemandStatus>;
    /// The text of the configuration in force.
    fn config(&self) -> String;
    /// Puts `text` in force as a difference and says what changed; or says what is wrong with
    /// it, and nothing changed. A client that goes away drops the future: an application that
    /// has begun must run to its end all the same.
    fn apply(&self, text: String) -> BoxFuture<'_, Result<String, String>>;
    /// How many replicas are wanted from now on; answers the same number.
    fn scale(&self, service: &str, replicas: usize) -> Result<usize, ControlError>;
    fn drain(&self, service: &str, endpoint: &str) -> Result<(), ControlError>;
    fn undrain(&self, service: &str, endpoint: &str) -> Result<(), ControlError>;
    /// `None`: back to the weight that the configuration gives.
    fn set_weight(
        &self,
        service: &str,
        endpoint: &str,
        weight: Option<u16>,
    ) -> Result<(), ControlError>;
    /// May traffic come? Otherwise: why not, in one line.
    fn ready(&self) -> Result<(), String>;
    fn metrics(&self) -> Metrics;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// There is nothing of that name (404).
    NotFound(String),
    /// It is there, but this cannot be done to it (409).
    Refused(String),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::NotFound(message) | ControlError::Refused(message) => {
                f.write_str(message)
            }
        }
    }
}

impl std::error::Error for ControlError {}
