//! What a query is answered. Pure, and for any bytes whatever.
//!
//! | name | what it is |
//! |---|---|
//! | `DOMAIN` | the zone itself |
//! | `SERVICE.DOMAIN` | who serves it: A, AAAA, SRV |
//! | `_NAME._tcp.SERVICE.DOMAIN` | the same, as RFC 2782 writes it: SRV |
//! | `zone.ZONE.SERVICE.DOMAIN` | those of one zone; `_NAME._tcp.` may stand before it, too |
//! | `HEX.addr.DOMAIN` | the address that HEX stands for: where SRV records lead |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::Rng;
use wire::dns::{
    self, CLASS_ANY, CLASS_IN, Data, EDNS_BYTES, Edns, Header, MESSAGE_BYTES_MAX, Message, Name,
    Question, Record, Section, Soa, Srv, UDP_BYTES, Writer, code, kind,
};

/// Where SRV records lead.
const ADDRESSES: &str = "addr";
const ZONE: &str = "zone";

/// Labels below the domain, with which a name may be that of a service: each place between two of
/// them is looked up. Longer ones are nobody's.
const LABELS_MAX: usize = 16;

/// Seconds; nobody copies this zone, so they only have to be there.
const REFRESH: u32 = 3600;
const RETRY: u32 = 600;
const EXPIRE: u32 = 86_400;

/// Knows who serves.
pub trait Directory: Send + Sync + 'static {
    /// All endpoints of the service of this name, which is in lower case; `None`: there is no such
    /// service. Asked for each query: it must be quick.
    fn find(&self, service: &str) -> Option<Arc<[Serving]>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    pub address: SocketAddr,
    pub weight: u16,
    pub priority: u8,
    pub zone: Option<Arc<str>>,
    /// It would be picked now. Others are not told.
    pub is_eligible: bool,
}

/// The domain that is answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub domain: Name,
    /// Seconds that an answer, also a negative one, may be kept.
    pub ttl: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// No answer but that it is to be had over TCP.
    UdpEmpty,
    Tcp,
}

/// The answer; `None`: the bytes are nothing that anybody waits for an answer to.
pub fn answer(
    query: &[u8],
    zone: &Zone,
    directory: &dyn Directory,
    transport: Transport,
    rng: &mut Rng,
) -> Option<Vec<u8>> {
    let query = match dns::decode(query) {
        Ok(query) => query,
        Err(defect) => {
            let asked = defect.header().filter(|header| !header.is_response)?;
            let header = respond(&asked, code::FORMAT_ERROR);
            return Some(Writer::new(header, None, UDP_BYTES).finish());
        }
    };
    // Two servers that answer each other's answers would never stop.
    if query.header.is_response {
        return None;
    }
    let limit = match (transport, query.edns) {
        (Transport::Tcp, _) => MESSAGE_BYTES_MAX,
        (_, None) => UDP_BYTES,
        (_, Some(edns)) => usize::from(edns.payload.min(EDNS_BYTES)).max(UDP_BYTES),
    };
    let header = respond(&query.header, refusal(&query, zone).unwrap_or(code::NO_ERROR));
    let mut reply = Reply::new(header, &query, limit);
    if transport == Transport::UdpEmpty {
        reply.writer.truncate();
    } else if let Some(question) = query.question.as_ref().filter(|_| header.code == code::NO_ERROR)
    {
        let asked = Asked { question, zone, directory };
        return Some(asked.answer(reply, header, &query, limit, rng));
    }
    Some(reply.writer.finish())
}

struct Reply {
    writer: Writer,
}

impl Reply {
    fn new(header: Header, query: &Message, limit: usize) -> Self {
        let mut writer = Writer::new(header, query.question.as_ref(), limit);
        if query.edns.is_some() {
            writer.edns(Edns { payload: EDNS_BYTES, version: 0 });
        }
        Self { writer }
    }
}

fn respond(asked: &Header, code: u16) -> Header {
    Header {
        id: asked.id,
        is_response: true,
        opcode: asked.opcode,
        authoritative: code == code::NO_ERROR,
        recursion_desired: asked.recursion_desired,
        code,
        ..Header::default()
    }
}

/// Why the question is not looked at.
fn refusal(query: &Message, zone: &Zone) -> Option<u16> {
    if query.header.opcode != 0 {
        return Some(code::NOT_IMPLEMENTED);
    }
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Some(code::BAD_VERSION);
    }
    let Some(question) = &query.question else { return Some(code::FORMAT_ERROR) };
    let ours = matches!(question.class, CLASS_IN | CLASS_ANY)
        && question.name.below(&zone.domain).is_some();
    (!ours).then_some(code::REFUSED)
}

struct Asked<'a> {
    question: &'a Question,
    zone: &'a Zone,
    directory: &'a dyn Directory,
}

/// What there is at a name.
enum Place {
    Nothing,
    /// Nothing but names below it (RFC 8020).
    Between,
    Apex,
    Address(IpAddr),
    Service {
        all: Arc<[Serving]>,
        of_zone: Option<String>,
        only_srv: bool,
    },
}

impl Asked<'_> {
    fn answer(
        &self,
        mut reply: Reply,
        header: Header,
        query: &Message,
        limit: usize,
        rng: &mut Rng,
    ) -> Vec<u8> {
        let place = self.place();
        if matches!(place, Place::Nothing) {
            let header = Header { code: code::NAME_ERROR, ..header };
            reply = Reply::new(header, query, limit);
        }
        let mut records = Vec::new();
        match &place {
            Place::Nothing | Place::Between => {}
            Place::Apex if self.asks(kind::SOA) => records.push(self.soa()),
            Place::Apex => {}
            Place::Address(ip) => records.extend(Some(data(*ip)).filter(|d| self.asks(d.kind()))),
            Place::Service { all, of_zone, only_srv } => {
                let chosen = chosen(all, of_zone.as_deref(), rng);
                records = self.of_service(&chosen, *only_srv);
            }
        }
        let record = |data| Record { name: self.question.name.clone(), ttl: self.zone.ttl, data };
        let mut targets = Vec::new();
        let is_empty = records.is_empty();
        for data in records {
            if let Data::Srv(srv) = &data {
                targets.extend(address_of(&srv.target).map(|ip| (srv.target.clone(), ip)));
            }
            if !reply.writer.record(Section::Answer, &record(data)) {
                // Over TCP there is no more to be had.
                if limit < MESSAGE_BYTES_MAX {
                    reply.writer.truncate();
                }
                break;
            }
        }
        if is_empty {
            // RFC 2308, section 3: so that it may be kept that there is none.
            let name = self.zone.domain.clone();
            let soa = Record { name, ttl: self.zone.ttl, data: self.soa() };
            reply.writer.record(Section::Authority, &soa);
        }
        for (name, ip) in targets {
            let address = Record { name, ttl: self.zone.ttl, data: data(ip) };
            if !reply.writer.record(Section::Additional, &address) {
                break;
            }
        }
        reply.writer.finish()
    }

    fn asks(&self, kind: u16) -> bool {
        [kind, kind::ANY].contains(&self.question.kind)
    }

    fn place(&self) -> Place {
        let Some(labels) = self.question.name.below(&self.zone.domain) else {
            return Place::Nothing;
        };
        if labels.len() > LABELS_MAX {
            return Place::Nothing;
        }
        let text = |label: &&[u8]| String::from_utf8(label.to_ascii_lowercase()).ok();
        let Some(labels) = labels.iter().map(text).collect::<Option<Vec<String>>>() else {
            return Place::Nothing;
        };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match &*labels {
            [] => Place::Apex,
            [hex, ADDRESSES] => match parse_hex(hex) {
                Some(ip) => Place::Address(ip),
                None => Place::Nothing,
            },
            [name, "_tcp" | "_udp", rest @ ..] if name.starts_with('_') => {
                match self.service(rest, true) {
                    Place::Between => Place::Nothing,
                    place => place,
                }
            }
            ["_tcp" | "_udp", rest @ ..] => match self.service(rest, true) {
                Place::Service { .. } => Place::Between,
                _ => Place::Nothing,
            },
            rest => self.service(rest, false),
        }
    }

    /// Names of services and zones may have dots themselves.
    fn service(&self, labels: &[&str], only_srv: bool) -> Place {
        let found = |all, of_zone| Place::Service { all, of_zone, only_srv };
        if let Some(all) = self.directory.find(&labels.join(".")) {
            return found(all, None);
        }
        let (is_zone, rest) = match labels {
            [ZONE, rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        for at in 1..rest.len() {
            let (zone, service) = (rest[..at].join("."), rest[at..].join("."));
            let Some(all) = self.directory.find(&service) else { continue };
            return match all.iter().any(|serving| is_in(serving, &zone)) {
                true if is_zone => found(all, Some(zone)),
                // What `zone.ZONE.SERVICE` stands below.
                true => Place::Between,
                false => Place::Nothing,
            };
        }
        match labels {
            [ADDRESSES] => Place::Between,
            _ => Place::Nothing,
        }
    }

    fn of_service(&self, chosen: &[&Serving], only_srv: bool) -> Vec<Data> {
        let services = |serving: &&Serving| {
            let target = target(serving.address.ip(), &self.zone.domain)?;
            let (priority, port) = (serving.priority.into(), serving.address.port());
            Some(Data::Srv(Srv { priority, weight: serving.weight, port, target }))
        };
        let addresses = |kind: u16| -> Vec<Data> {
            let mut all: Vec<Data> = Vec::new();
            for serving in chosen.iter().filter(|_| !only_srv) {
                let data = data(serving.address.ip().to_canonical());
                // Several may serve on ports of one address.
                if data.kind() == kind && !all.contains(&data) {
                    all.push(data);
                }
            }
            all
        };
        match self.question.kind {
            kind::SRV => chosen.iter().filter_map(services).collect(),
            kind @ (kind::A | kind::AAAA) => addresses(kind),
            // RFC 8482: one set of records is enough of an answer.
            kind::ANY => [addresses(kind::A), addresses(kind::AAAA)]
                .into_iter()
                .chain([chosen.iter().filter_map(services).collect()])
                .find(|records| !records.is_empty())
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn soa(&self) -> Data {
        let below = |label: &str| {
            let labels = [label.as_bytes()].into_iter().chain(self.zone.domain.labels());
            Name::of(labels).unwrap_or_else(|_| self.zone.domain.clone())
        };
        Data::Soa(Box::new(Soa {
            server: below("ns"),
            mailbox: below("hostmaster"),
            serial: 1,
            refresh: REFRESH,
            retry: RETRY,
            expire: EXPIRE,
            minimum: self.zone.ttl,
        }))
    }
}

fn is_in(serving: &Serving, zone: &str) -> bool {
    serving.zone.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(zone))
}

/// Who is told, in an order by chance: each comes first as often as its weight says (Efraimidis
/// and Spirakis, "Weighted random sampling with a reservoir", 2006), for many clients only try
/// the first.
fn chosen<'a>(all: &'a [Serving], of_zone: Option<&str>, rng: &mut Rng) -> Vec<&'a Serving> {
    let told =
        |serving: &&Serving| serving.is_eligible && of_zone.is_none_or(|zone| is_in(serving, zone));
    let any_weight = all.iter().filter(told).any(|serving| serving.weight > 0);
    let told = all.iter().filter(told).filter(|serving| serving.weight > 0 || !any_weight);
    let key = |serving: &Serving, rng: &mut Rng| {
        -(1.0 - rng.unit()).max(f64::MIN_POSITIVE).ln() / f64::from(serving.weight.max(1))
    };
    let mut keyed: Vec<(f64, &Serving)> =
        told.map(|serving| (key(serving, rng), serving)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    keyed.into_iter().map(|(_, serving)| serving).collect()
}

fn data(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

fn target(ip: IpAddr, domain: &Name) -> Option<Name> {
    let hex = match ip.to_canonical() {
        IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
        IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
    };
    let labels = [hex.as_bytes(), ADDRESSES.as_bytes()];
    // Only with a very long domain; then there is no name to lead to.
    Name::of(labels.into_iter().chain(domain.labels())).ok()
}

fn address_of(target: &Name) -> Option<IpAddr> {
    parse_hex(std::str::from_utf8(target.labels().next()?).ok()?)
}

fn parse_hex(hex: &str) -> Option<IpAddr> {
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match hex.len() {
        8 => u32::from_str_radix(hex, 16).ok().map(|bits| IpAddr::V4(bits.into())),
        32 => u128::from_str_radix(hex, 16).ok().map(|bits| IpAddr::V6(bits.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
