//! `ports` and `expose` of a service.

use config::tree::{Node, Value, quoted};

use super::Context;
use super::keys::{Keys, scalar};
use crate::project::{ContainerPort, Port, Transport};

/// Of all services together, ranges written out: more than a machine has, and few enough that a
/// short text of long ranges does not fill the memory.
const PORTS_MAX: usize = 65_536;

/// One item of `ports`, which may stand for a range.
pub(super) fn ports(node: &Node, what: &str, context: &Context<'_>) -> Vec<Port> {
    let ports = match &node.value {
        Value::Map(_) => long(node, what, context),
        Value::Scalar { text, .. } => short(text),
        Value::List(_) => Err("an item of `ports` must be text or a map".into()),
    };
    let help = "write \"8080:5000\", \"127.0.0.1:8080:5000\", \"5000\" or \"53:53/udp\"";
    match ports {
        Ok(ports) => {
            if !fits(ports.len(), node, context) {
                return Vec::new();
            }
            ports.into_iter().map(|port| Port { span: node.span, ..port }).collect()
        }
        Err(message) if message.is_empty() => Vec::new(),
        Err(message) => {
            context.report.error_help(node.span, message, help);
            Vec::new()
        }
    }
}

/// Counts them; whether there is room.
fn fits(count: usize, node: &Node, context: &Context<'_>) -> bool {
    let count = context.ports.get() + count;
    context.ports.set(count);
    if count > PORTS_MAX {
        let message = format!("more than {PORTS_MAX} ports in one project");
        context.report.error(node.span, message);
    }
    count <= PORTS_MAX
}

/// `[[IP:]PUBLISHED:]CONTAINER[/PROTOCOL]`, the numbers being ports or ranges.
fn short(text: &str) -> Result<Vec<Port>, String> {
    let wrong = || format!("{} is no port", quoted(text));
    let (body, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let transport = transport_of(transport).ok_or_else(wrong)?;
    let (front, container) = match body.rsplit_once(':') {
        Some((front, container)) => (Some(front), container),
        None => (None, body),
    };
    let (ip, published) = match front.map(|front| front.rsplit_once(':').unwrap_or(("", front))) {
        Some((ip, published)) => (ip.trim_matches(['[', ']']), published),
        None => ("", ""),
    };
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("{}: {} is no IP address", quoted(text), quoted(ip)));
    }
    let (first, last) = range(container).ok_or_else(wrong)?;
    let published = match published {
        "" => None,
        published => Some(range(published).ok_or_else(wrong)?),
    };
    let count = last - first;
    if published.is_some_and(|(from, to)| count > 0 && to - from != count) {
        return Err(format!("{}: the two ranges differ in length", quoted(text)));
    }
    let port = |offset: u16| Port {
        container: ContainerPort { number: first + offset, transport },
        published: match published {
            // A range for one port: the engine takes a free one of it.
            Some(range) if count == 0 => Some(range),
            Some((from, _)) => Some((from + offset, from + offset)),
            None => None,
        },
        host_ip: (!ip.is_empty()).then(|| ip.to_owned()),
        host_mode: false,
        app_protocol: None,
        span: Default::default(),
    };
    Ok((0..=count).map(port).collect())
}

fn long(node: &Node, what: &str, context: &Context<'_>) -> Result<Vec<Port>, String> {
    let keys = Keys::open(context.report, format!("an item of {what}"), node);
    let target = keys.get("target").and_then(scalar).and_then(|text| text.parse().ok());
    let published = keys.get("published").and_then(scalar).map(str::to_owned);
    let host_ip = keys.text("host_ip");
    let transport = keys.text("protocol");
    let mode = keys.text("mode");
    let app_protocol = keys.text("app_protocol");
    keys.text("name");
    keys.finish(&[], &[]);
    let number = match target {
        Some(number @ 1..) => number,
        _ => return Err("a port needs its `target`, a number from 1 to 65535".into()),
    };
    let transport = transport.unwrap_or_else(|| "tcp".into());
    let transport = transport_of(&transport)
        .ok_or_else(|| format!("ports of protocol {} are not supported", quoted(&transport)))?;
    let published = match published.as_deref() {
        None | Some("0" | "") => None,
        Some(text) => {
            Some(range(text).ok_or_else(|| format!("{} is no published port", quoted(text)))?)
        }
    };
    if host_ip.as_ref().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
        return Err("`host_ip` must be an IP address".into());
    }
    let host_mode = match mode.as_deref() {
        None | Some("ingress") => false,
        Some("host") => true,
        Some(other) => {
            return Err(format!("`mode` must be ingress or host, not {}", quoted(other)));
        }
    };
    let container = ContainerPort { number, transport };
    Ok(vec![Port { container, published, host_ip, host_mode, app_protocol, span: node.span }])
}

/// `5000` or `5000/udp`.
pub(super) fn exposed(node: &Node, context: &Context<'_>) -> Vec<ContainerPort> {
    let text = scalar(node).unwrap_or("");
    let (numbers, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    match (range(numbers), transport_of(transport)) {
        (Some((first, last)), Some(transport)) => {
            if !fits(usize::from(last - first) + 1, node, context) {
                return Vec::new();
            }
            (first..=last).map(|number| ContainerPort { number, transport }).collect()
        }
        _ => {
            let message = format!("`expose`: {} is no port", node.describe());
            context.report.error_help(node.span, message, "write \"5000\" or \"53/udp\"");
            Vec::new()
        }
    }
}

fn transport_of(text: &str) -> Option<Transport> {
    match text {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        _ => None,
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        type Expected<'a> = Option<&'a [(u16, Option<(u16, u16)>, Option<&'a str>)]>;
        let cases: [(&str, Expected<'_>); 14] = [
            ("5000", Some(&[(5000, None, None)])),
            ("8080:5000", Some(&[(5000, Some((8080, 8080)), None)])),
            ("127.0.0.1:8080:80", Some(&[(80, Some((8080, 8080)), Some("127.0.0.1"))])),
            ("[::1]:8080:80", Some(&[(80, Some((8080, 8080)), Some("::1"))])),
            ("127.0.0.1::80", Some(&[(80, None, Some("127.0.0.1"))])),
            ("53:53/udp", Some(&[(53, Some((53, 53)), None)])),
            (
                "8000-8001:80-81",
                Some(&[(80, Some((8000, 8000)), None), (81, Some((8001, 8001)), None)]),
            ),
            ("8000-8010:80", Some(&[(80, Some((8000, 8010)), None)])),
            ("8000-8010:80-81", None),
            ("x:80", None),
            ("80:0", None),
            ("80:81:82:83", None),
            ("80/sctp", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = short(text).ok().map(|ports| {
                let one = |p: Port| (p.container.number, p.published, p.host_ip);
                ports.into_iter().map(one).collect::<Vec<_>>()
            });
            let expected = expected.map(|ports| {
                let one = |(a, b, ip): &(u16, Option<(u16, u16)>, Option<&str>)| {
                    (*a, *b, ip.map(str::to_owned))
                };
                ports.iter().map(one).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{text}");
        }
    }
}
