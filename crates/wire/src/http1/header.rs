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
        let is = |known: &[u8]| known.first() == Some(&first) && name.eq_ignore_ascii_case(known);
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

#[cfg(test)]
mod tests {
    use super::*;

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
