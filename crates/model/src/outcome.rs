/// How a picked endpoint did. Every pick is reported exactly once with one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered (any status below 500), or the stream ended in order.
    Success,
    /// It answered with a status of 500 or above.
    ServerError,
    /// No connection could be made: refused, unreachable, or the connect time-out passed.
    ConnectFailed,
    /// The connection broke, or what it sent was no valid answer.
    Broken,
    /// It did not answer in time.
    TimedOut,
    /// The client went away or erred; says nothing about the endpoint.
    Abandoned,
}

impl Outcome {
    /// Does it speak against the endpoint?
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Success | Outcome::Abandoned)
    }
}
