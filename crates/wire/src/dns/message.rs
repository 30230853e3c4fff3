use std::fmt;

use super::name::{self, Name};
use super::{CLASS_IN, Data, Edns, Header, Message, Question, Record, Soa, Srv, kind};

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 12;

/// Records of one message that are read: as many addresses as fit into the longest one.
const RECORDS_MAX: usize = 4096;

/// Why bytes are no message that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// It ends before its header does: there is nobody to answer.
    ShortHeader,
    /// More than one question.
    Questions(Header),
    /// A name, a record or a length is wrong, or the message ends too early. The header is right.
    Malformed(Header),
    TooManyRecords(Header),
    /// More than one record of EDNS (RFC 6891, section 6.1.1).
    TwoEdns(Header),
}

impl Defect {
    /// Whom to answer, if that can be told.
    pub fn header(&self) -> Option<Header> {
        match self {
            Defect::ShortHeader => None,
            Defect::Questions(header)
            | Defect::Malformed(header)
            | Defect::TooManyRecords(header)
            | Defect::TwoEdns(header) => Some(*header),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Defect::ShortHeader => "a message that ends before its header does",
            Defect::Questions(_) => "a message with several questions",
            Defect::Malformed(_) => "a malformed message",
            Defect::TooManyRecords(_) => "a message with too many records",
            Defect::TwoEdns(_) => "a message with EDNS twice",
        })
    }
}

/// Reads a whole message. Bytes after its last record are passed over.
pub fn decode(message: &[u8]) -> Result<Message, Defect> {
    let bytes: &[u8; HEADER_BYTES] = message.first_chunk().ok_or(Defect::ShortHeader)?;
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let header = header(word(0), word(2));
    let counts = [word(6), word(8), word(10)].map(usize::from);
    if word(4) > 1 {
        return Err(Defect::Questions(header));
    }
    if counts.iter().sum::<usize>() > RECORDS_MAX {
        return Err(Defect::TooManyRecords(header));
    }
    let malformed = Defect::Malformed(header);
    let mut reader = Reader { message, at: HEADER_BYTES, edns: None, twice: false };
    let question = match word(4) {
        0 => None,
        _ => Some(reader.question().ok_or(malformed)?),
    };
    let mut sections = [Vec::new(), Vec::new(), Vec::new()];
    for (section, count) in sections.iter_mut().zip(counts) {
        for _ in 0..count {
            section.extend(reader.record().ok_or(malformed)?);
        }
    }
    if reader.twice {
        return Err(Defect::TwoEdns(header));
    }
    let [answers, authorities, additionals] = sections;
    let mut message = Message { header, question, answers, authorities, additionals, edns: None };
    if let Some((edns, code)) = reader.edns {
        message.header.code |= code << 4;
        message.edns = Some(edns);
    }
    Ok(message)
}

fn header(id: u16, flags: u16) -> Header {
    Header {
        id,
        is_response: flags & 0x8000 != 0,
        opcode: (flags >> 11 & 0xf) as u8,
        authoritative: flags & 0x0400 != 0,
        truncated: flags & 0x0200 != 0,
        recursion_desired: flags & 0x0100 != 0,
        recursion_available: flags & 0x0080 != 0,
        code: flags & 0xf,
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    /// And the upper bits of the code.
    edns: Option<(Edns, u16)>,
    twice: bool,
}

impl Reader<'_> {
    fn name(&mut self) -> Option<Name> {
        let (name, end) = name::read(self.message, self.at)?;
        self.at = end;
        Some(name)
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.message.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn question(&mut self) -> Option<Question> {
        Some(Question { name: self.name()?, kind: self.u16()?, class: self.u16()? })
    }

    /// `Some(None)`: EDNS, which is no record of anything.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.message.len())?;
        if kind == kind::OPT {
            let [code, version, ..] = ttl.to_be_bytes();
            self.twice |= self.edns.is_some();
            self.edns = Some((Edns { payload: class, version }, u16::from(code)));
            self.at = end;
            return Some(None);
        }
        let data = match (class, kind) {
            (CLASS_IN, kind) => self.data(kind, length)?,
            (_, kind) => Data::Other(kind),
        };
        // What is understood fills its record to the end.
        if self.at != end && !matches!(data, Data::Other(_)) {
            return None;
        }
        self.at = end;
        // RFC 2181, section 8: one with its highest bit set counts as 0.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Some(Some(Record { name, ttl, data }))
    }

    fn data(&mut self, kind: u16, length: usize) -> Option<Data> {
        Some(match kind {
            kind::A if length == 4 => Data::A(self.bytes::<4>()?.into()),
            kind::AAAA if length == 16 => Data::Aaaa(self.bytes::<16>()?.into()),
            kind::A | kind::AAAA => return None,
            kind::CNAME => Data::Cname(self.name()?),
            kind::NS => Data::Ns(self.name()?),
            kind::SRV => Data::Srv(Srv {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            }),
            kind::SOA => Data::Soa(Box::new(Soa {
                server: self.name()?,
                mailbox: self.name()?,
                serial: self.u32()?,
                refresh: self.u32()?,
                retry: self.u32()?,
                expire: self.u32()?,
                minimum: self.u32()?,
            })),
            other => Data::Other(other),
        })
    }
}
