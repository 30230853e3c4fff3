//! Addresses as a person writes them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where to listen: `:8080` or `8080` (every IPv4 address), `127.0.0.1:8080`, `[::]:80`,
/// `localhost:80`. Port 0 lets the system choose.
pub fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    parse(text, Ipv4Addr::UNSPECIFIED.into())
}

/// Where to send: `127.0.0.1:5001`, `:5001` or `5001` (this machine), `localhost:5001`,
/// `[::1]:80`. Never port 0 or an unspecified address.
pub fn parse_endpoint_address(text: &str) -> Result<SocketAddr, String> {
    let address = parse(text, Ipv4Addr::LOCALHOST.into())?;
    if address.port() == 0 {
        return Err(format!("{text:?} has port 0; write the port that is listened on"));
    }
    if address.ip().to_canonical().is_unspecified() {
        let port = address.port();
        return Err(format!("{text:?} is no place to send to; for this machine write :{port}"));
    }
    Ok(address)
}

/// Whom to ask about names: `10.0.0.1`, `10.0.0.1:5353`, `::1`, `[::1]:5353`. Port 53 by default.
pub(crate) fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    const PORT: u16 = 53;
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.to_canonical().is_unspecified() => {
            Err(format!("{text:?} is no place to send to; for this machine write 127.0.0.1"))
        }
        Ok(ip) => Ok(SocketAddr::new(ip, PORT)),
        Err(_) if !text.contains(':') && text != "localhost" => Err(format!(
            "{text:?} is no IP address; write that of a server of the DNS, such as 127.0.0.1"
        )),
        Err(_) => parse_endpoint_address(text),
    }
}

fn parse(text: &str, default: IpAddr) -> Result<SocketAddr, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        return Err(format!("an address has no {scheme:?}://; write {rest:?}"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(format!("{text:?} has no port; write [{text}]:8080"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some(parts) => parts,
        None if text.bytes().all(|b| b.is_ascii_digit()) => ("", text),
        None => return Err(format!("{text:?} has no port; write {text}:8080")),
    };
    let port = number(port)
        .ok_or_else(|| format!("{port:?} is no port; write a number from 0 to 65535"))?;
    let ip = match host {
        "" => default,
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        _ if host.contains(':') => {
            return Err(format!(
                "{text:?} needs brackets around the IPv6 address: [{host}]:{port}"
            ));
        }
        _ => {
            return Err(format!(
                "{host:?} is no IP address; names are not looked up, write 127.0.0.1:{port}"
            ));
        }
    };
    Ok(SocketAddr::new(ip, port))
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_endpoints() {
        for (text, bind, endpoint) in [
            (":8080", Some("0.0.0.0:8080"), Some("127.0.0.1:8080")),
            ("8080", Some("0.0.0.0:8080"), Some("127.0.0.1:8080")),
            ("127.0.0.1:80", Some("127.0.0.1:80"), Some("127.0.0.1:80")),
            ("localhost:80", Some("127.0.0.1:80"), Some("127.0.0.1:80")),
            ("*:80", Some("0.0.0.0:80"), None),
            ("[::]:80", Some("[::]:80"), None),
            ("[::1]:80", Some("[::1]:80"), Some("[::1]:80")),
            ("127.0.0.1:0", Some("127.0.0.1:0"), None),
            ("::1", None, None),
            ("127.0.0.1", None, None),
            ("127.0.0.1:65536", None, None),
            ("127.0.0.1:+80", None, None),
            ("fe80::1:80:", None, None),
            ("http://127.0.0.1:80/", None, None),
            ("example.com:80", None, None),
            ("", None, None),
            (":", None, None),
        ] {
            let show = |r: Result<SocketAddr, String>| r.ok().map(|a| a.to_string());
            assert_eq!(show(parse_bind(text)).as_deref(), bind, "{text}");
            assert_eq!(show(parse_endpoint_address(text)).as_deref(), endpoint, "{text}");
        }
    }
}
