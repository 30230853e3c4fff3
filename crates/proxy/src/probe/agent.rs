//! Asks the health agent of an endpoint: a connection of its own, and one line.

use std::net::SocketAddr;
use std::time::Duration;

use model::AgentReply;
use model::spec::{HealthAgentSpec, HealthSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wire::agent_reply::{REPLY_BYTES_MAX, decode, is_whole};

use super::check::connect;

/// What the agent beside `address` says. `None` if it is away, or says nothing that is known: then
/// what it said before holds on, and whether the endpoint is well is for its check to say.
/// An answer is awaited no longer than until the next question.
pub(super) async fn ask(
    agent: &HealthAgentSpec,
    spec: &HealthSpec,
    address: SocketAddr,
) -> Option<AgentReply> {
    timeout(patience(spec), line(agent, address)).await.ok()?
}

fn patience(spec: &HealthSpec) -> Duration {
    spec.timeout.min(spec.interval)
}

async fn line(agent: &HealthAgentSpec, address: SocketAddr) -> Option<AgentReply> {
    let target = SocketAddr::new(address.ip(), agent.port);
    let mut stream = connect(target).await.ok()?;
    // One that talks before it listens may be gone already: what it said counts.
    let question = agent.send.replace("{address}", &address.to_string());
    let _ = stream.write_all(question.as_bytes()).await;
    let mut bytes = Vec::with_capacity(REPLY_BYTES_MAX);
    while !is_whole(&bytes) && stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {}
    decode(&bytes)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of an agent that gets `heard`, says `reply` and, if it `ends`, closes.
    fn asked(send: &str, heard: &str, reply: &[u8], ends: bool) -> Option<AgentReply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let agent = HealthAgentSpec { port, send: send.into() };
            let spec = HealthSpec { interval: Duration::from_secs(20), ..HealthSpec::default() };
            let beside = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; heard.len()];
                stream.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, heard.as_bytes());
                for part in reply.chunks(3) {
                    stream.write_all(part).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
                (!ends).then_some(stream)
            };
            let address = "127.0.0.1:1".parse().unwrap();
            tokio::join!(ask(&agent, &spec, address), beside).0
        })
    }

    #[test]
    fn a_line_or_what_came_until_the_end() {
        let half = Some(AgentReply { percent: Some(50), ..AgentReply::default() });
        assert_eq!(asked("{address}\n", "127.0.0.1:1\n", b"50%\n", false), half);
        assert_eq!(asked("", "", b"50%", true), half);
        assert_eq!(asked("", "", b"", true), None);
    }

    #[test]
    fn one_that_never_ends_is_cut_off() {
        assert_eq!(asked("", "", &[b'x'; REPLY_BYTES_MAX], false), None);
    }
}
