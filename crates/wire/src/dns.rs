//! Messages of the Domain Name System (RFC 1035), as far as endpoints are found and told by them:
//! addresses (A, AAAA: RFC 3596), services (SRV: RFC 2782), aliases (CNAME), what a zone says of
//! itself (SOA, for negative answers: RFC 2308), and EDNS (RFC 6891).
//!
//! Our own and not a library's: six kinds of records are all that is needed, in some 400 lines
//! that are fuzzed here, where `hickory-proto` 0.26 brings thirty crates that nothing else here needs
//! (`url`, `idna` and what that needs of ICU), even without its features; and what becomes of times to
//! live and of negative answers must be ours anyway.
//!
//! Start with [`decode`] and [`Writer`].

mod message;
mod name;
mod writer;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use message::{Defect, decode};
pub use name::{Name, NameDefect};
pub use writer::{Section, Writer};

/// Bytes of a message over UDP without EDNS (RFC 1035, section 4.2.1).
pub const UDP_BYTES: usize = 512;

/// Bytes of a message over UDP that pass nearly everywhere unfragmented (DNS flag day 2020).
pub const EDNS_BYTES: u16 = 1232;

/// Bytes of a message over TCP, whose length takes two bytes (RFC 1035, section 4.2.2).
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Of records and questions.
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    /// In questions only: whatever there is (RFC 8482).
    pub const ANY: u16 = 255;
}

/// The Internet.
pub const CLASS_IN: u16 = 1;
/// In questions only: any class.
pub const CLASS_ANY: u16 = 255;

/// How it went (RFC 1035, section 4.1.1; RFC 6891, section 9).
pub mod code {
    pub const NO_ERROR: u16 = 0;
    pub const FORMAT_ERROR: u16 = 1;
    pub const SERVER_FAILURE: u16 = 2;
    /// There is no such name.
    pub const NAME_ERROR: u16 = 3;
    pub const NOT_IMPLEMENTED: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BAD_VERSION: u16 = 16;

    /// What people call it.
    pub fn name(code: u16) -> String {
        match code {
            NO_ERROR => "NOERROR",
            FORMAT_ERROR => "FORMERR",
            SERVER_FAILURE => "SERVFAIL",
            NAME_ERROR => "NXDOMAIN",
            NOT_IMPLEMENTED => "NOTIMP",
            REFUSED => "REFUSED",
            BAD_VERSION => "BADVERS",
            other => return format!("error {other}"),
        }
        .to_owned()
    }
}

/// The first twelve bytes, and what EDNS adds to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub is_response: bool,
    /// 0: a query.
    pub opcode: u8,
    pub authoritative: bool,
    /// More would be to say than fits.
    pub truncated: bool,
    pub recursion_desired: bool,
    pub recursion_available: bool,
    /// One of [`code`]; above 15 only with EDNS.
    pub code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub kind: u16,
    pub class: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: Name,
    /// Seconds; above 2^31 counts as 0 (RFC 2181, section 8).
    pub ttl: u32,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Name),
    Ns(Name),
    Srv(Srv),
    Soa(Box<Soa>),
    /// Of another kind, or class; not looked into.
    Other(u16),
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// The lowest first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
    pub port: u16,
    /// The root (`.`): there is no such service.
    pub target: Name,
}

/// What a zone says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    pub server: Name,
    pub mailbox: Name,
    pub serial: u32,
    /// Seconds, as the three below.
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// How long a negative answer may be kept (RFC 2308, section 4).
    pub minimum: u32,
}

/// What a sender of EDNS says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Bytes of a message over UDP that it takes.
    pub payload: u16,
    pub version: u8,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub header: Header,
    /// What is asked; messages with more than one question are refused, for nobody answers them
    /// (RFC 9619).
    pub question: Option<Question>,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    pub edns: Option<Edns>,
}

impl Data {
    pub fn kind(&self) -> u16 {
        match self {
            Data::A(_) => kind::A,
            Data::Aaaa(_) => kind::AAAA,
            Data::Cname(_) => kind::CNAME,
            Data::Ns(_) => kind::NS,
            Data::Srv(_) => kind::SRV,
            Data::Soa(_) => kind::SOA,
            Data::Other(kind) => *kind,
        }
    }
}

/// A question for a resolver, over UDP or (with its length in front) TCP. With EDNS: answers over UDP may have
/// [`EDNS_BYTES`].
pub fn query(id: u16, question: &Question, edns: bool) -> Vec<u8> {
    let header = Header { id, recursion_desired: true, ..Header::default() };
    let mut writer = Writer::new(header, Some(question), MESSAGE_BYTES_MAX);
    if edns {
        writer.edns(Edns { payload: EDNS_BYTES, version: 0 });
    }
    writer.finish()
}

#[cfg(test)]
mod tests;
