//! One header field, and the names that the proxy treats specially.

use super::Span;

/// A field of a head, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Span,
    /// Without the optional whitespace around it.
    pub value: Span,
    pub kind: HeaderKind,
    /// Meant for this connection only (RFC 9110 section 7.6.1): not to be forwarded. Connection,
    /// Keep-Alive, Proxy-Connection, TE, Transfer-Encoding, Upgrade, HTTP2-Settings, and whatever
    /// a Connection field names. `Trailer` is not among them, since trailers are passed on.
    pub hop_by_hop: bool,
}

/// A name that the proxy treats specially; found once, by length and letters, while parsing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum HeaderKind {
    #[default]
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Via,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    Forwarded,
    Cookie,
    SetCookie,
    Date,
    Server,
    RetryAfter,
    ProxyAuthenticate,
    ProxyAuthorization,
    ContentType,
    Http2Settings,
    MaxForwards,
    /// `Client-Cert`, `Client-Cert-Chain` (RFC 9440), and what we say of certificates beside them.
    ClientCertificate,
    /// ORCA: see [`crate::orca`].
    EndpointLoadMetrics,
    EndpointLoadMetricsBin,
}

impl HeaderKind {
    /// Finds the kind of a field name, in any letter case.
    pub fn of(name: &[u8]) -> HeaderKind {
        use HeaderKind::*;
        // The length leaves at most four names to compare with.
        let candidates: &[(HeaderKind, &[u8])] = match name.len() {
            2 => &[(Te, b"te")],
            3 => &[(Via, b"via")],
            4 => &[(Host, b"host"), (Date, b"date")],
            6 => &[(Cookie, b"cookie"), (Expect, b"expect"), (Server, b"server")],
            7 => &[(Upgrade, b"upgrade"), (Trailer, b"trailer")],
            9 => &[(Forwarded, b"forwarded")],
            10 => &[
                (Connection, b"connection"),
                (KeepAlive, b"keep-alive"),
                (SetCookie, b"set-cookie"),
            ],
            11 => &[(RetryAfter, b"retry-after"), (ClientCertificate, b"client-cert")],
            12 => &[(ContentType, b"content-type"), (MaxForwards, b"max-forwards")],
            14 => &[(ContentLength, b"content-length"), (Http2Settings, b"http2-settings")],
            15 => &[(XForwardedFor, b"x-forwarded-for")],
            16 => &[(XForwardedHost, b"x-forwarded-host"), (ProxyConnection, b"proxy-connection")],
            17 => &[
                (TransferEncoding, b"transfer-encoding"),
                (XForwardedProto, b"x-forwarded-proto"),
                (ClientCertificate, b"client-cert-chain"),
            ],
            18 => &[(ProxyAuthenticate, b"proxy-authenticate")],
            19 => &[
                (ProxyAuthorization, b"proxy-authorization"),
                (ClientCertificate, b"x-client-cert-names"),
            ],
            20 => &[(ClientCertificate, b"x-client-cert-sha256")],
            21 => &[
                (EndpointLoadMetrics, b"endpoint-load-metrics"),
                (ClientCertificate, b"x-client-cert-subject"),
            ],
            25 => &[(EndpointLoadMetricsBin, b"endpoint-load-metrics-bin")],
            _ => &[],
        };
        // Most names are none of these, and differ in the first letter already.
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let is = |known: &[u8]| known.first() == Some(&first) && is_same(name, known);
        let same = candidates.iter().find(|(_, known)| is(known));
        same.map_or(Other, |(kind, _)| *kind)
    }

    /// Whether RFC 9110 section 7.6.1 takes it for this connection only, named or not.
    pub(super) fn is_hop_by_hop(self) -> bool {
        use HeaderKind::*;
        matches!(
            self,
            Connection
                | KeepAlive
                | ProxyConnection
                | Te
                | TransferEncoding
                | Upgrade
                | Http2Settings
        )
    }
}

/// Whether `name` is `known` in any letter case. Both are as long, and `known` has small letters,
/// digits and dashes: eight of them are compared at a time.
fn is_same(name: &[u8], known: &[u8]) -> bool {
    let (Some(name_end), Some(known_end)) = (name.last_chunk::<8>(), known.last_chunk::<8>())
    else {
        return name.eq_ignore_ascii_case(known);
    };
    // The last eight may overlap those before them.
    let (names, knowns) = (name.as_chunks::<8>().0, known.as_chunks::<8>().0);
    names.iter().zip(knowns).all(|(name, known)| are_same(*name, *known))
        && are_same(*name_end, *known_end)
}

/// A capital letter differs from its small one by the bit 0x20, which digits and dashes have as
/// well: set in all of them, what is the same is equal. Of other bytes only controls would become
/// one of these; they have neither this bit nor the next.
fn are_same(name: [u8; 8], known: [u8; 8]) -> bool {
    const BITS: u64 = 0x2020_2020_2020_2020;
    let (name, known) = (u64::from_le_bytes(name), u64::from_le_bytes(known));
    let no_control = (name | name >> 1) & BITS == BITS;
    no_control && name | BITS == known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_at_a_time_are_compared_as_one_at_a_time() {
        for known in [&b"http2-settings"[..], b"x-client-cert-sha256", b"endpoint-load-metrics-bin"]
        {
            assert!(is_same(&known.to_ascii_uppercase(), known));
            for position in 0..known.len() {
                for byte in 0..=255 {
                    let mut name = known.to_vec();
                    name[position] = byte;
                    let expected = name.eq_ignore_ascii_case(known);
                    assert_eq!(is_same(&name, known), expected, "{}", name.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn every_kind_is_found_in_any_case() {
        for (name, kind) in [
            ("Host", HeaderKind::Host),
            ("CONTENT-LENGTH", HeaderKind::ContentLength),
            ("transfer-encoding", HeaderKind::TransferEncoding),
            ("Connection", HeaderKind::Connection),
            ("Keep-Alive", HeaderKind::KeepAlive),
            ("Proxy-Connection", HeaderKind::ProxyConnection),
            ("tE", HeaderKind::Te),
            ("Trailer", HeaderKind::Trailer),
            ("Upgrade", HeaderKind::Upgrade),
            ("Expect", HeaderKind::Expect),
            ("Via", HeaderKind::Via),
            ("X-Forwarded-For", HeaderKind::XForwardedFor),
            ("X-Forwarded-Proto", HeaderKind::XForwardedProto),
            ("X-Forwarded-Host", HeaderKind::XForwardedHost),
            ("Forwarded", HeaderKind::Forwarded),
            ("Cookie", HeaderKind::Cookie),
            ("Set-Cookie", HeaderKind::SetCookie),
            ("Date", HeaderKind::Date),
            ("Server", HeaderKind::Server),
            ("Retry-After", HeaderKind::RetryAfter),
            ("Proxy-Authenticate", HeaderKind::ProxyAuthenticate),
            ("Proxy-Authorization", HeaderKind::ProxyAuthorization),
            ("Content-Type", HeaderKind::ContentType),
            ("HTTP2-Settings", HeaderKind::Http2Settings),
            ("Max-Forwards", HeaderKind::MaxForwards),
            ("Endpoint-Load-Metrics", HeaderKind::EndpointLoadMetrics),
            ("endpoint-load-metrics-bin", HeaderKind::EndpointLoadMetricsBin),
            ("Client-Cert", HeaderKind::ClientCertificate),
            ("client-cert-chain", HeaderKind::ClientCertificate),
            ("X-Client-Cert-Subject", HeaderKind::ClientCertificate),
            ("X-Client-Cert-SHA256", HeaderKind::ClientCertificate),
            ("X-Client-Cert-Names", HeaderKind::ClientCertificate),
            ("Content_Length", HeaderKind::Other),
            ("Hos", HeaderKind::Other),
            ("", HeaderKind::Other),
        ] {
            assert_eq!(HeaderKind::of(name.as_bytes()), kind, "{name}");
        }
    }
}
