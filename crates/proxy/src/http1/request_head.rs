//! The request's head as the endpoint is to see it.

use std::net::IpAddr;

use model::Rng;
use model::spec::{HeaderEdit, HttpSpec};
use tls::Identity;
use wire::http1::{Framing, Header, HeaderKind, RequestHead, TargetForm};

use crate::http1::lines::Lines;
use crate::http1::session::write_cookie;
use crate::http2::names_trailers;
use crate::listener::Route;

/// Whom the request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) address: IpAddr,
    /// The address as text, made once per connection.
    pub(crate) text: &'a str,
    /// May it tell us about clients before it?
    pub(crate) trusted: bool,
    /// Did it come by TLS?
    pub(crate) https: bool,
    /// The version of HTTP that it speaks to us.
    pub(crate) version: &'static str,
    /// Whom it proved to be.
    pub(crate) identity: Option<&'a Identity>,
}

/// An address as text, once for each connection: by the standard library's formatting it would
/// be 4 % of what a connection with one request costs us.
pub(crate) fn text_of(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (position, octet) in address.octets().into_iter().enumerate() {
        if position > 0 {
            text.push('.');
        }
        for (unit, least) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= least {
                text.push(char::from(b'0' + octet / unit % 10));
            }
        }
    }
    text
}

impl Sender<'_> {
    fn scheme(&self) -> &'static [u8] {
        if self.https { b"https" } else { b"http" }
    }
}

/// What the endpoint's request line and `Host` say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
    pub(crate) host: &'a [u8],
}

/// Hop-by-hop headers (RFC 9110 section 7.6.1) end here; what the client may not say of itself is
/// replaced; the rest passes in its order and letter case. `rewritten`: the cookie whose values
/// have a token of ours in front. `out` is replaced.
#[expect(clippy::too_many_arguments, reason = "everything that shapes the head, by its name")]
pub(crate) fn write(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &RequestHead,
    target: &Target<'_>,
    route: &Route,
    spec: &HttpSpec,
    sender: &Sender<'_>,
    rewritten: Option<&str>,
    rng: &mut Rng,
) {
    out.clear();
    out.extend_from_slice(head.method.of(bytes));
    out.push(b' ');
    if head.form == TargetForm::Asterisk {
        out.push(b'*');
    } else {
        out.extend_from_slice(if target.path.is_empty() { b"/" } else { target.path });
        if let Some(query) = target.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, b"Host", target.host);
    let seen = copy_headers(out, bytes, head, route, spec, sender, rewritten);
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(protocol) = upgrade(bytes, head) {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        line(out, b"Upgrade", protocol);
    } else if seen.te {
        // RFC 9110 section 10.1.4: it says so of each hop, and it is true of ours.
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    if let Some(identity) = sender.identity {
        out.extend_from_slice(&identity.header_lines);
    }
    // What the route sets or removes is the route's to say.
    let edits = &route.request_headers;
    let is_ours = |name: &str| edits.is_empty() || !is_edited(edits, name.as_bytes());
    if spec.x_forwarded {
        if is_ours("x-forwarded-for") {
            forwarded_for(out, bytes, &head.headers, sender);
        }
        if !seen.proto && is_ours("x-forwarded-proto") {
            line(out, b"X-Forwarded-Proto", sender.scheme());
        }
        if !seen.host && is_ours("x-forwarded-host") {
            line(out, b"X-Forwarded-Host", head.authority.of(bytes));
        }
    }
    if spec.forwarded && is_ours("forwarded") {
        forwarded(out, bytes, head, sender);
    }
    if spec.via && is_ours("via") {
        // RFC 9110 section 7.6.3: the version is that of the message that we received.
        out.extend_from_slice(b"Via: ");
        out.extend_from_slice(sender.version.as_bytes());
        out.extend_from_slice(b" evenkeel\r\n");
    }
    if let Some(name) = &spec.request_id
        && !seen.request_id
        && is_ours(name)
    {
        request_id(out, name, rng);
    }
    write_edits(out, edits);
    out.extend_from_slice(b"\r\n");
}

/// What of ours the request already had, and may keep.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    proto: bool,
    host: bool,
    request_id: bool,
    /// Trailers are welcome.
    te: bool,
}

fn copy_headers(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &RequestHead,
    route: &Route,
    spec: &HttpSpec,
    sender: &Sender<'_>,
    rewritten: Option<&str>,
) -> Seen {
    let mut seen = Seen::default();
    let mut lines = Lines::new(bytes);
    let replaces = spec.x_forwarded || spec.forwarded;
    for header in &head.headers {
        if header.hop_by_hop {
            seen.te |= header.kind == HeaderKind::Te && names_trailers(header.value.of(bytes));
            continue;
        }
        match header.kind {
            HeaderKind::Host | HeaderKind::TransferEncoding => continue,
            // Credentials for a proxy are for the first proxy that asks; none of ours do.
            HeaderKind::ProxyAuthorization => continue,
            // Applications take these for what we verified (RFC 9440 section 2.4).
            HeaderKind::ClientCertificate if !sender.trusted || sender.identity.is_some() => {
                continue;
            }
            HeaderKind::XForwardedFor if spec.x_forwarded => continue,
            HeaderKind::XForwardedProto if spec.x_forwarded => {
                if !sender.trusted {
                    continue;
                }
                seen.proto = true;
            }
            HeaderKind::XForwardedHost if spec.x_forwarded => {
                if !sender.trusted {
                    continue;
                }
                seen.host = true;
            }
            HeaderKind::Forwarded if spec.forwarded || (replaces && !sender.trusted) => continue,
            HeaderKind::Other => {
                if let Some(name) = &spec.request_id
                    && header.name.of(bytes).eq_ignore_ascii_case(name.as_bytes())
                {
                    if !sender.trusted {
                        continue;
                    }
                    seen.request_id = true;
                } else if poses_as_ours(header.name.of(bytes), spec.request_id.as_deref()) {
                    continue;
                }
            }
            _ => {}
        }
        let name = header.name.of(bytes);
        if !route.request_headers.is_empty() && is_edited(&route.request_headers, name) {
            continue;
        }
        match rewritten {
            Some(cookie) if header.kind == HeaderKind::Cookie => {
                lines.flush(out);
                write_cookie(out, name, header.value.of(bytes), cookie.as_bytes());
            }
            _ => lines.pass(out, header),
        }
    }
    lines.flush(out);
    seen
}

/// Applications that see headers as CGI variables (RFC 3875 section 4.1.18; WSGI, Rack, PHP) know
/// `X_Forwarded_For` and `X-Forwarded-For` by one name. A header that differs from one that we
/// replace or check only there would be believed in its place.
fn poses_as_ours(name: &[u8], request_id: Option<&str>) -> bool {
    if !name.contains(&b'_') {
        return false;
    }
    // Names that we know are shorter; a request id's of more than this is not compared.
    let mut dashed = [0; 64];
    let Some(dashed) = dashed.get_mut(..name.len()) else { return false };
    for (to, from) in dashed.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    HeaderKind::of(dashed) != HeaderKind::Other
        || request_id.is_some_and(|id| dashed.eq_ignore_ascii_case(id.as_bytes()))
}

/// The protocol to upgrade to, if that may pass. `h2c` may not: the endpoint would go on in a
/// protocol that nobody here checks.
pub(crate) fn upgrade<'a>(bytes: &'a [u8], head: &RequestHead) -> Option<&'a [u8]> {
    if !head.upgrade {
        return None;
    }
    let header = head.headers.iter().find(|h| h.kind == HeaderKind::Upgrade)?;
    let protocol = header.value.of(bytes);
    let names_h2c =
        protocol.split(|b| *b == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"h2c"));
    (!names_h2c).then_some(protocol)
}

fn forwarded_for(out: &mut Vec<u8>, bytes: &[u8], headers: &[Header], sender: &Sender<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if sender.trusted {
        for header in headers.iter().filter(|h| h.kind == HeaderKind::XForwardedFor) {
            out.extend_from_slice(header.value.of(bytes));
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(sender.text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 7239. What a trusted sender said before comes first.
fn forwarded(out: &mut Vec<u8>, bytes: &[u8], head: &RequestHead, sender: &Sender<'_>) {
    out.extend_from_slice(b"Forwarded: ");
    if sender.trusted {
        for header in head.headers.iter().filter(|h| h.kind == HeaderKind::Forwarded) {
            out.extend_from_slice(header.value.of(bytes));
            out.extend_from_slice(b", ");
        }
    }
    if sender.address.is_ipv6() {
        out.extend_from_slice(b"for=\"[");
        out.extend_from_slice(sender.text.as_bytes());
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(b"for=");
        out.extend_from_slice(sender.text.as_bytes());
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(sender.scheme());
    out.extend_from_slice(b";host=\"");
    out.extend_from_slice(head.authority.of(bytes));
    out.extend_from_slice(b"\"\r\n");
}

fn request_id(out: &mut Vec<u8>, name: &str, rng: &mut Rng) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for mut word in [rng.next_u64(), rng.next_u64()] {
        for _ in 0..16 {
            word = word.rotate_left(4);
            out.push(HEX[(word & 15) as usize]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Is the header of this name set or removed by the route?
pub(crate) fn is_edited(edits: &[HeaderEdit], name: &[u8]) -> bool {
    edits.iter().any(|edit| match edit {
        HeaderEdit::Set(edited, _) | HeaderEdit::Remove(edited) => {
            name.eq_ignore_ascii_case(edited.as_bytes())
        }
        HeaderEdit::Add(..) => false,
    })
}

pub(crate) fn write_edits(out: &mut Vec<u8>, edits: &[HeaderEdit]) {
    for edit in edits {
        match edit {
            HeaderEdit::Set(name, value) | HeaderEdit::Add(name, value) => {
                line(out, name.as_bytes(), value.as_bytes());
            }
            HeaderEdit::Remove(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 0, 255 - octet, 10]);
            assert_eq!(text_of(address), address.to_string());
        }
        let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        assert_eq!(text_of(address), "2001:db8::1");
    }
}
