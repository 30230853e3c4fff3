use std::time::Duration;

/// When an endpoint is left out for a while on the evidence of its own traffic, whatever checks
/// say. `services.NAME.outlier`; off by default.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierSpec {
    /// So many requests in a row failed, answers of 500 and above included. Default 5, 1 to
    /// 10,000; `None`: never for this reason. Noticed at once.
    pub consecutive: Option<u32>,
    /// At least this share of the requests in a window failed (0.5 is 50 %). Default 0.5; `None`:
    /// never for this reason.
    pub error_rate: Option<f64>,
    /// The mean latency of a window is more than so many times the median of the other
    /// endpoints' means. Default 3, 1.1 to 1000; `None`: never for this reason.
    pub latency: Option<f64>,
    /// A window with fewer requests says nothing, and goes on for up to ten times its length.
    /// Default 20, 1 to 1,000,000.
    pub requests_min: u32,
    /// The length of a window. Default 1 s; 100 ms to 1 h.
    pub interval: Duration,
    /// How long the first ejection lasts; each further one twice as long as the one before.
    /// Default 10 s; 100 ms to 24 h.
    pub ejection: Duration,
    /// No ejection lasts longer. Default 5 min; 100 ms to 24 h, and no less than `ejection`.
    pub ejection_max: Duration,
    /// At most this share of the listed endpoints is ejected at the same time, though always one
    /// may be if another is left; 0: none. Default 0.5.
    pub share_max: f64,
}

impl Default for OutlierSpec {
    fn default() -> Self {
        Self {
            consecutive: Some(5),
            error_rate: Some(0.5),
            latency: Some(3.0),
            requests_min: 20,
            interval: Duration::from_secs(1),
            ejection: Duration::from_secs(10),
            ejection_max: Duration::from_secs(300),
            share_max: 0.5,
        }
    }
}
