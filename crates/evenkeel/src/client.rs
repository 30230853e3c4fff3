//! Talks to the admin API of a running balancer: one blocking request per connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;

const DEFAULT_ADDRESS: &str = "127.0.0.1:9900";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than the balancer takes to apply a configuration, which may wait for new replicas.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of an answer. 100,000 endpoints are about 25 MiB of JSON.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Where the admin API of the running balancer is.
#[derive(clap::Args)]
pub(crate) struct AdminAddress {
    /// Address of the admin API, e.g. `127.0.0.1:9900`, `:9900` or `http://10.0.0.7:9900`
    #[arg(long, value_name = "ADDRESS", env = "EVENKEEL_ADMIN", default_value = DEFAULT_ADDRESS)]
    admin: String,
    /// Its token
    #[arg(long, value_name = "TOKEN", env = "EVENKEEL_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl AdminAddress {
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        let authority = authority(&self.admin).map_err(Failure::Usage)?;
        if let Some(token) = &self.token
            && !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Failure::Usage("the token must be of visible ASCII characters".into()));
        }
        Ok(AdminClient { authority, token: self.token.clone() })
    }
}

#[derive(Clone)]
pub(crate) struct AdminClient {
    /// `host:port`
    authority: String,
    token: Option<String>,
}

impl AdminClient {
    /// Of a balancer that we have started ourselves: on this machine, without a token.
    pub(crate) fn at(address: std::net::SocketAddr) -> Self {
        Self { authority: address.to_string(), token: None }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.ask("POST", path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask("PATCH", path, Some(body))
    }

    /// Puts a configuration in force; the answer says what changed, or why nothing did.
    pub(crate) fn post_config(&self, text: &str) -> Result<Value, Failure> {
        self.ask_text("POST", "/v1/config", "application/yaml", text)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.ask_text(method, path, "application/json", &body)
    }

    fn ask_text(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Result<Value, Failure> {
        let authority = &self.authority;
        let answer = self.exchange(method, path, content_type, body).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Job(format!(
                "nothing listens on {authority}; is `evenkeel run` running, with `admin` in its \
                 configuration? --admin says where"
            )),
            _ => Failure::Job(format!("cannot ask {authority}: {error}")),
        })?;
        let (status, body) = split(&answer).ok_or_else(|| {
            Failure::Job(format!("what {authority} answered is not the admin API's: no HTTP"))
        })?;
        let value: Option<Value> = serde_json::from_slice(body).ok();
        match (status, value) {
            (200..=299, Some(value)) => Ok(value),
            (_, Some(value)) if value["error"].is_string() => {
                let message = value["error"].as_str().unwrap_or_default();
                let help = if status == 401 { "; --token or EVENKEEL_TOKEN gives it" } else { "" };
                Err(Failure::Job(format!("{message}{help}")))
            }
            _ => Err(Failure::Job(format!(
                "what {authority} answered is not the admin API's: status {status}, not JSON"
            ))),
        }
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> io::Result<Vec<u8>> {
        let mut stream = connect(&self.authority)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        // HTTP/1.0, so that the answer is not chunked and the connection ends with it.
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.authority);
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Type: {content_type}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        (&stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Status and body of an HTTP answer; `None` if it is none, or cut off.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())
    });
    match length {
        Some(length) => Some((status, body.get(..length?)?)),
        None => Some((status, body)),
    }
}

/// One segment of a path, or a value of a query, percent-encoded except for RFC 3986's unreserved
/// characters.
pub(crate) fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// `host:port` of what a person wrote.
fn authority(text: &str) -> Result<String, String> {
    let bare = match text.split_once("://") {
        None => text,
        Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
        Some((scheme, _)) => return Err(format!("the admin API speaks http, not {scheme}")),
    };
    let (host, port) = bare.rsplit_once(':').unwrap_or((bare, "9900"));
    let port: u16 = port
        .parse()
        .map_err(|_| format!("{text:?} is no address; write 127.0.0.1:9900 or http://host:9900"))?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if !host.bytes().all(valid) {
        return Err(format!("{text:?} is no address; write 127.0.0.1:9900 or http://host:9900"));
    }
    Ok(format!("{}:{port}", if host.is_empty() { "127.0.0.1" } else { host }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("127.0.0.1:9900", Some("127.0.0.1:9900")),
            (":9901", Some("127.0.0.1:9901")),
            ("localhost", Some("localhost:9900")),
            ("http://10.0.0.7:80/", Some("10.0.0.7:80")),
            ("[::1]:9900", Some("[::1]:9900")),
            ("https://10.0.0.7:80", None),
            ("10.0.0.7:x", None),
            ("a b:1", None),
            ("http://a/b:1", None),
        ] {
            assert_eq!(authority(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encoded("web-1"), "web-1");
        assert_eq!(encoded("[::1]:80/ä"), "%5B%3A%3A1%5D%3A80%2F%C3%A4");
    }

    #[test]
    fn answers_are_split() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some((200, "{}"))),
            ("HTTP/1.0 404 Not Found\r\n\r\nno", Some((404, "no"))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}", None),
            ("HTTP/1.1 abc\r\n\r\n", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
        ] {
            let expected = expected.map(|(status, body): (u16, &str)| (status, body.as_bytes()));
            assert_eq!(split(answer.as_bytes()), expected, "{answer}");
        }
    }
}
