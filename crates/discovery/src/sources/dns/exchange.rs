//! One question to one server, over UDP and, if the answer is cut off, over TCP.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use wire::dns::{self, Message, Question, code};

/// Bytes of an answer over UDP that are read: more than EDNS asks for, since some servers send
/// what they like.
const ANSWER_BYTES: usize = 4096;

/// Datagrams that are no answer to the question, such as guesses of somebody else's, before we
/// give up.
const STRANGERS_MAX: usize = 64;

/// Its answer; `limit` is for all of it. Otherwise why there is none.
pub(super) async fn exchange(
    server: SocketAddr,
    question: &Question,
    limit: Duration,
) -> Result<Message, String> {
    let asked = async {
        let mut answer = over_udp(server, question, true).await?;
        // Who does not know EDNS says so, or that the message is malformed (RFC 6891, section 7).
        let refuses_edns = matches!(answer.header.code, code::FORMAT_ERROR | code::NOT_IMPLEMENTED);
        if refuses_edns && answer.edns.is_none() {
            answer = over_udp(server, question, false).await?;
        }
        if answer.header.truncated {
            answer = over_tcp(server, question).await?;
        }
        Ok::<_, io::Error>(answer)
    };
    match timeout(limit, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn over_udp(server: SocketAddr, question: &Question, edns: bool) -> io::Result<Message> {
    // A socket, and so a port, for each question: who wants to guess must guess that, too
    // (RFC 5452). The kernel drops what comes from elsewhere.
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = chance();
    socket.send(&dns::query(id, question, edns)).await?;
    let mut buffer = vec![0; ANSWER_BYTES];
    for _ in 0..STRANGERS_MAX {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer(&buffer[..length], id, question) {
            return Ok(answer);
        }
    }
    Err(io::Error::other("what it sends are no answers"))
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let id = chance();
    let query = dns::query(id, question, true);
    // A question has less than 300 bytes. In one piece: some servers read no further.
    let length = query.len() as u16;
    stream.write_all(&[&length.to_be_bytes(), &*query].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = answer(&buffer, id, question);
    answer.ok_or_else(|| io::Error::other("what it sends is no answer"))
}

/// The message, if it answers this very question.
fn answer(bytes: &[u8], id: u16, question: &Question) -> Option<Message> {
    let message = dns::decode(bytes).ok()?;
    let header = &message.header;
    let fits = match &message.question {
        Some(asked) => asked == question,
        // Who does not understand a message may leave out what it asks.
        None => header.code == code::FORMAT_ERROR,
    };
    (header.is_response && header.id == id && header.opcode == 0 && fits).then_some(message)
}

/// Not to be guessed: SipHash under a key that the operating system drew.
fn chance() -> u16 {
    RandomState::new().hash_one(()) as u16
}
