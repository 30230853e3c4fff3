use std::path::PathBuf;
use std::time::Duration;

/// Replicas that we start ourselves, as processes. Each gets a free port in `PORT` and its name
/// (`web-1`) in `REPLICA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// Program and arguments, not run through a shell. Never empty. A program of the name
    /// `evenkeel` is this very program.
    pub command: Vec<String>,
    /// How many at start, 0 to 1,000; `scale` changes it at run time. Default 1.
    pub replicas: usize,
    pub env: Vec<(String, String)>,
    /// Default: the directory of the configuration file.
    pub cwd: Option<PathBuf>,
    /// After draining and SIGTERM, how long until SIGKILL. Default 10 s.
    pub stop_grace: Duration,
    /// How long a new replica may take to become healthy before it is restarted. Default 60 s.
    pub start_timeout: Duration,
}
