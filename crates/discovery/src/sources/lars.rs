//! The hosts of a key, from a route service of Lars (its `lars_dns`, or the one of an agent here):
//! asked once, told again by the service whenever they change, and asked again now and then, as
//! Lars' own agents do, since what it pushes may have been lost with its memory.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use model::Endpoint;
use model::spec::DiscoverSpec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wire::lars::{Decoded, Host, Key, Message, decode, encode};

use super::{BoxFuture, Provider, Source, Teller, Told, Unheard};
use crate::backoff::Backoff;

/// After so long without an answer it is asked again: Lars' `update_timeout`.
const REFRESH: Duration = Duration::from_secs(15);

/// To connect, to take a question, and to answer it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Read at once.
const READ_BYTES: usize = 4096;

pub const PROVIDER: Provider = Provider {
    name: "lars",
    summary: "the hosts of a key, from a route service of Lars",
    open: |spec| match spec {
        DiscoverSpec::Lars(lars) => {
            let key = Key { modid: lars.modid, cmdid: lars.cmdid };
            Some(Box::new(Lars { address: lars.address, key }))
        }
        _ => None,
    },
};

struct Lars {
    address: SocketAddr,
    key: Key,
}

impl Source for Lars {
    fn place(&self) -> String {
        format!("{} ({}:{})", self.address, self.key.modid, self.key.cmdid)
    }

    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture {
        Box::pin(async move {
            let Err(Unheard) = follow(&self, teller).await;
        })
    }
}

async fn follow(lars: &Lars, teller: Teller) -> Result<std::convert::Infallible, Unheard> {
    let mut backoff = Backoff::new(teller.seed);
    loop {
        let mut told = None;
        let error = match connect(lars.address).await {
            Ok(stream) => listen(stream, lars.key, &teller, &mut told).await?,
            Err(error) => error,
        };
        if told.is_some() {
            backoff.reset();
        }
        teller.tell(Told::Lost { reason: reason(&error) }).await?;
        sleep(backoff.wait()).await;
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the route service closed the connection".into(),
        ErrorKind::TimedOut => format!("no answer within {} s", PATIENCE.as_secs()),
        _ => error.to_string(),
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Until the connection is of no use any more, and why. `told`: what was told last.
async fn listen(
    mut stream: TcpStream,
    key: Key,
    teller: &Teller,
    told: &mut Option<Told>,
) -> Result<io::Error, Unheard> {
    let mut read = Vec::new();
    loop {
        // What was asked is answered soon; what changes is pushed at any time.
        if let Err(error) = ask(&mut stream, key).await {
            return Ok(error);
        }
        let mut answered = false;
        let asked = Instant::now();
        loop {
            let until = asked + if answered { REFRESH } else { PATIENCE };
            let message = match timeout_at(until, next(&mut stream, &mut read)).await {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => return Ok(error),
                Err(_) if answered => break,
                Err(_) => return Ok(ErrorKind::TimedOut.into()),
            };
            let Message::GetRouteResponse(of, hosts) = message else {
                let what = "the route service sent what no route service sends";
                return Ok(io::Error::new(ErrorKind::InvalidData, what));
            };
            if of == key {
                answered = true;
                let now = route(&hosts);
                if told.as_ref() != Some(&now) {
                    teller.tell(now.clone()).await?;
                    *told = Some(now);
                }
            }
        }
    }
}

async fn ask(stream: &mut TcpStream, key: Key) -> io::Result<()> {
    let mut frame = Vec::new();
    encode(&Message::GetRouteRequest(key), &mut frame);
    timeout(PATIENCE, stream.write_all(&frame)).await?
}

/// The next frame. Nothing is lost when the future is dropped.
async fn next(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Message> {
    loop {
        match decode(read) {
            Ok(Decoded::Complete { message, len }) => {
                read.drain(..len);
                return Ok(message);
            }
            // Fewer bytes are held than the longest frame has.
            Ok(Decoded::Partial) => {}
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error.reason())),
        }
        let mut block = [0; READ_BYTES];
        match stream.read(&mut block).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&block[..count]),
        }
    }
}

/// Each host once. What nobody can send to is left out, and said.
fn route(hosts: &[Host]) -> Told {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = 0;
    for host in hosts {
        match host.address().filter(|a| a.port() != 0 && !a.ip().is_unspecified()) {
            Some(address) if seen.insert(address) => endpoints.push(Endpoint::at(address.into())),
            Some(_) => {}
            None => wrong += 1,
        }
    }
    let wrong = (wrong > 0).then(|| format!("{wrong} of {} hosts have no address", hosts.len()));
    // There is always something to tell.
    Told::of(Some(endpoints), wrong).unwrap_or(Told::Endpoints(Vec::new()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use model::spec::LarsSelector;

    const KEY: Key = Key { modid: 1, cmdid: 2 };

    fn host(port: i32) -> Host {
        Host { ip: 0x0a00_0001, port }
    }

    /// What was told: the ports, and what is wrong.
    fn shown(told: Told) -> String {
        let ports = |listed: Vec<crate::Listed>| {
            let port = |l: &crate::Listed| l.endpoint.address.port().to_string();
            listed.iter().map(port).collect::<Vec<_>>().join(" ")
        };
        match told {
            Told::Endpoints(listed) => ports(listed),
            Told::Partly { endpoints, reason } => format!("{}, {reason}", ports(endpoints)),
            Told::Lost { reason } => format!("lost: {reason}"),
        }
    }

    struct Peer(TcpStream, Vec<u8>);

    impl Peer {
        async fn asked(&mut self) {
            let message = next(&mut self.0, &mut self.1).await.unwrap();
            assert_eq!(message, Message::GetRouteRequest(KEY));
        }
        async fn say(&mut self, key: Key, hosts: &[Host]) {
            let mut frame = Vec::new();
            encode(&Message::GetRouteResponse(key, hosts.to_vec()), &mut frame);
            self.0.write_all(&frame).await.unwrap();
        }
    }

    #[test]
    fn a_route_is_followed_and_asked_for_again_after_a_loss() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let spec = DiscoverSpec::Lars(LarsSelector { address, modid: 1, cmdid: 2 });
            let source = (PROVIDER.open)(&spec).unwrap();
            assert_eq!(source.place(), format!("{address} (1:2)"));
            let (sender, mut told) = mpsc::channel(8);
            let read_list = |_: &str, _: &str, _: &str| Ok(Vec::new());
            let teller = Teller::new("web".into(), read_list, 1, sender);
            let following = tokio::spawn(source.follow(teller));
            let accept = async || Peer(listener.accept().await.unwrap().0, Vec::new());
            let mut next_told = async || shown(told.recv().await.unwrap().1);

            let mut peer = accept().await;
            peer.asked().await;
            peer.say(Key { modid: 9, cmdid: 9 }, &[host(9)]).await;
            peer.say(KEY, &[host(80), host(80), host(81), host(0), host(-1)]).await;
            assert_eq!(next_told().await, "80 81, 2 of 5 hosts have no address");
            // Pushed, the same first, which is not told again.
            peer.say(KEY, &[host(80), host(81), host(0), host(-1), host(80)]).await;
            peer.say(KEY, &[host(82)]).await;
            assert_eq!(next_told().await, "82");
            drop(peer);
            assert_eq!(next_told().await, "lost: the route service closed the connection");
            // Another connection may tell what was told before: it is told, as it is no loss any more.
            let mut peer = accept().await;
            peer.asked().await;
            peer.say(KEY, &[host(82)]).await;
            assert_eq!(next_told().await, "82");
            peer.say(KEY, &[]).await;
            assert_eq!(next_told().await, "");
            peer.0.write_all(&[0xff; 20]).await.unwrap();
            assert_eq!(next_told().await, "lost: the length is out of bounds");
            let mut peer = accept().await;
            peer.0.write_all(b"\x04\0\0\0\0\0\0\0").await.unwrap();
            assert!(next_told().await.starts_with("lost: the route service sent what"));
            following.abort();
        });
    }
}
