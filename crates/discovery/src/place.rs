//! Where a container is reached, or why it is not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::spec::ContainerAddress;

use crate::{Container, Port, Transport};

/// What is asked for: each from the most to the least particular that says something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) port: Option<u16>,
    pub(crate) network: Option<&'a str>,
    pub(crate) address: ContainerAddress,
    /// The networks that the balancer is in, if it is in a container itself.
    pub(crate) here: Option<&'a BTreeSet<String>>,
}

pub(crate) fn place(container: &Container, wish: &Wish<'_>) -> Result<SocketAddr, String> {
    let port = port(container, wish.port)?;
    if wish.address == ContainerAddress::Published {
        return published(container, port)
            .ok_or_else(|| format!("does not publish its port {} on this machine", port.number));
    }
    if container.host_network {
        return match wish.here {
            None => Ok((Ipv4Addr::LOCALHOST, port.number).into()),
            Some(_) => Err("uses the machine's own network, which the balancer, in a container, \
                            does not share"
                .to_owned()),
        };
    }
    match own_address(container, wish) {
        Ok(ip) => Ok((ip, port.number).into()),
        // Without a network of its own (rootless Podman) it is reached like anything else on
        // this machine.
        Err(why) => published(container, port).filter(|_| wish.here.is_none()).ok_or(why),
    }
}

fn own_address(container: &Container, wish: &Wish<'_>) -> Result<IpAddr, String> {
    let names = || container.networks.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if container.networks.is_empty() {
        return Err("has no address in any network".to_owned());
    }
    if let Some(wanted) = wish.network {
        // Compose puts the project's name before its networks'.
        let composed = container.labels.get("com.docker.compose.project");
        let composed = composed.map(|project| format!("{project}_{wanted}"));
        let found = container.networks.get(wanted);
        let found = found.or_else(|| container.networks.get(&composed?));
        return found
            .copied()
            .ok_or_else(|| format!("is not in the network {wanted}, only in {}", names()));
    }
    let reachable = |name: &String| wish.here.is_none_or(|here| here.contains(name));
    let first = container.networks.iter().find(|(name, _)| reachable(name));
    first.map(|(_, ip)| *ip).ok_or_else(|| {
        format!("shares no network with the balancer's own container; it is in {}", names())
    })
}

fn port(container: &Container, wanted: Option<u16>) -> Result<Port, String> {
    let known = |transport| {
        let all = container.ports.iter().filter(move |port| port.transport == transport);
        all.copied().collect::<Vec<Port>>()
    };
    let (tcp, udp) = (known(Transport::Tcp), known(Transport::Udp));
    if let Some(number) = wanted {
        let only_udp =
            udp.iter().any(|p| p.number == number) && tcp.iter().all(|port| port.number != number);
        let transport = if only_udp { Transport::Udp } else { Transport::Tcp };
        return Ok(Port { transport, number });
    }
    let list = if tcp.is_empty() { udp } else { tcp };
    match &*list {
        [only] => Ok(*only),
        [] => Err("exposes no port; say which with the label evenkeel.port".to_owned()),
        all => {
            let all: Vec<String> = all.iter().map(|port| port.number.to_string()).collect();
            let all = all.join(", ");
            Err(format!("exposes the ports {all}; say which with the label evenkeel.port"))
        }
    }
}

fn published(container: &Container, port: Port) -> Option<SocketAddr> {
    let mut all = container.published.iter().filter(|published| published.port == port);
    let found = all.clone().find(|published| published.host.is_ipv4()).or_else(|| all.next())?;
    let ip = match found.host {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some((ip, found.host_port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Published;

    fn tcp(number: u16) -> Port {
        Port { transport: Transport::Tcp, number }
    }

    fn container() -> Container {
        let ip = |text: &str| text.parse().unwrap();
        Container {
            networks: [("back".into(), ip("10.0.1.2")), ("shop_front".into(), ip("10.0.2.2"))]
                .into(),
            labels: [("com.docker.compose.project".into(), "shop".into())].into(),
            ports: vec![tcp(5000)],
            published: vec![
                Published { port: tcp(5000), host: ip("::"), host_port: 8080 },
                Published { port: tcp(5000), host: ip("0.0.0.0"), host_port: 8080 },
            ],
            ..Container::default()
        }
    }

    fn check(container: &Container, wish: Wish<'_>, expected: &str) {
        let found = match place(container, &wish) {
            Ok(address) => address.to_string(),
            Err(why) => why,
        };
        assert_eq!(found, expected, "{wish:?}");
    }

    #[test]
    fn networks() {
        let web = container();
        let wish = Wish::default();
        check(&web, wish, "10.0.1.2:5000");
        check(&web, Wish { network: Some("front"), ..wish }, "10.0.2.2:5000");
        check(&web, Wish { network: Some("shop_front"), ..wish }, "10.0.2.2:5000");
        let here = ["shop_front".to_owned()].into();
        check(&web, Wish { here: Some(&here), ..wish }, "10.0.2.2:5000");
        let bare = Container { published: Vec::new(), ..container() };
        check(
            &bare,
            Wish { network: Some("other"), ..wish },
            "is not in the network other, only in back, shop_front",
        );
        let elsewhere = ["else".to_owned()].into();
        check(
            &web,
            Wish { here: Some(&elsewhere), ..wish },
            "shares no network with the balancer's own container; it is in back, shop_front",
        );
        let host = Container { host_network: true, networks: [].into(), ..container() };
        check(&host, wish, "127.0.0.1:5000");
        let none = Container { networks: [].into(), published: Vec::new(), ..container() };
        check(&none, wish, "has no address in any network");
    }

    #[test]
    fn published_ports() {
        let wish = Wish { address: ContainerAddress::Published, ..Wish::default() };
        check(&container(), wish, "127.0.0.1:8080");
        let none = Container { published: Vec::new(), ..container() };
        check(&none, wish, "does not publish its port 5000 on this machine");
        let rootless = Container { networks: [].into(), ..container() };
        check(&rootless, Wish::default(), "127.0.0.1:8080");
    }

    #[test]
    fn ports() {
        let mut web = container();
        web.ports = vec![tcp(80), tcp(443)];
        check(
            &web,
            Wish::default(),
            "exposes the ports 80, 443; say which with the label evenkeel.port",
        );
        check(&web, Wish { port: Some(443), ..Wish::default() }, "10.0.1.2:443");
        check(&web, Wish { port: Some(9), ..Wish::default() }, "10.0.1.2:9");
        web.ports = vec![Port { transport: Transport::Udp, number: 53 }];
        check(&web, Wish::default(), "10.0.1.2:53");
        web.ports.push(tcp(80));
        check(&web, Wish::default(), "10.0.1.2:80");
        web.ports.clear();
        check(&web, Wish::default(), "exposes no port; say which with the label evenkeel.port");
    }
}
