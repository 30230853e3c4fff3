//! Long-lived streams through the program to `evenkeel echo`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::client::Client;

/// A WebSocket (RFC 6455) to the echo service.
pub struct WebSocket {
    pub client: Client,
    /// The replica that took it.
    pub replica: String,
}

/// From section 1.3, with the answer that it must get.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// "The masking key needs to be unpredictable" only to browsers' peers.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl WebSocket {
    pub fn open(address: SocketAddr) -> WebSocket {
        let mut client = Client::connect(address);
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        client.send(request).unwrap();
        let response = client.head().unwrap();
        assert_eq!(response.status, 101, "{}", response.head);
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        let replica = response.header("x-replica").unwrap().to_owned();
        WebSocket { client, replica }
    }

    /// Sends a text message and takes the one that comes back.
    pub fn echo(&mut self, text: &str) -> io::Result<String> {
        let length = u16::try_from(text.len()).unwrap();
        let mut frame = vec![0x81];
        match length {
            0..=125 => frame.push(0x80 | length as u8),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.client.send(frame)?;
        let head = self.client.take(2)?;
        if head[0] != 0x81 {
            return Err(io::Error::other(format!("frame {head:?}")));
        }
        let length = match head[1] {
            126 => {
                let length = self.client.take(2)?;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            length => usize::from(length),
        };
        Ok(String::from_utf8_lossy(&self.client.take(length)?).into_owned())
    }

    pub fn assert_works(&mut self) {
        for text in ["short", &"long".repeat(1000)] {
            assert_eq!(self.echo(text).expect("the WebSocket works"), text);
        }
    }
}

/// A TCP stream to the echo service, which answers each line with its name and the line.
pub struct Lines {
    pub client: Client,
    /// The replica that took it.
    pub replica: String,
}

impl Lines {
    pub fn open(address: SocketAddr) -> Lines {
        Self::try_open(address).unwrap()
    }

    /// A stream that had reached a replica when that was killed is reset.
    pub fn try_open(address: SocketAddr) -> io::Result<Lines> {
        let mut lines = Lines { client: Client::connect(address), replica: String::new() };
        let answer = lines.echo("who")?;
        lines.replica = answer.split(' ').next().unwrap().to_owned();
        Ok(lines)
    }

    pub fn echo(&mut self, line: &str) -> io::Result<String> {
        self.client.send(format!("{line}\r\n"))?;
        self.client.line()
    }

    pub fn assert_works(&mut self) {
        let answer = self.echo("still there?").expect("the TCP stream works");
        assert_eq!(answer, format!("{} still there?", self.replica));
    }
}

/// Did the stream end? A peer that is merely silent is a failure of the test.
pub fn is_end(error: &io::Error) -> bool {
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    true
}
