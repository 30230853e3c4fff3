use std::collections::BTreeMap;

use super::{CLASS_IN, Data, Edns, Header, Name, Question, Record, kind};

/// Bytes of an EDNS record without options.
const EDNS_RECORD_BYTES: usize = 11;

/// A pointer has 14 bits.
const POINTED_AT_MAX: usize = 0x3fff;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// Writes one message of a bounded length, names compressed (RFC 1035, section 4.1.4). What no
/// longer fits is left out.
pub struct Writer {
    header: Header,
    message: Vec<u8>,
    limit: usize,
    /// Where each suffix of a name stands, in lower case.
    names: BTreeMap<Vec<u8>, u16>,
    questions: u16,
    counts: [u16; 3],
    edns: Option<Edns>,
}

impl Writer {
    /// `limit`: bytes of the whole message; a header and a question always fit.
    pub fn new(header: Header, question: Option<&Question>, limit: usize) -> Self {
        let mut writer = Self {
            header,
            message: vec![0; 12],
            limit,
            names: BTreeMap::new(),
            questions: 0,
            counts: [0; 3],
            edns: None,
        };
        if let Some(Question { name, kind, class }) = question {
            writer.questions = 1;
            writer.name(name, true);
            writer.u16(*kind);
            writer.u16(*class);
        }
        writer
    }

    /// That we understand EDNS. Before any record, so that there is room for it.
    pub fn edns(&mut self, edns: Edns) {
        if self.edns.is_none() && self.message.len() + EDNS_RECORD_BYTES <= self.limit {
            self.limit -= EDNS_RECORD_BYTES;
            self.edns = Some(edns);
        }
    }

    /// Writes a record, section after section; `false` if it does not fit: then nothing of it is
    /// written. [`Data::Other`] cannot be written, and is left out.
    pub fn record(&mut self, section: Section, record: &Record) -> bool {
        let before = self.message.len();
        let count = self.counts[section as usize];
        debug_assert!(self.counts[section as usize + 1..].iter().all(|count| *count == 0));
        let Some(count) = count.checked_add(1) else { return false };
        self.name(&record.name, true);
        self.u16(record.data.kind());
        self.u16(CLASS_IN);
        self.message.extend(record.ttl.to_be_bytes());
        let length = self.message.len();
        self.u16(0);
        self.data(&record.data);
        let fits = self.message.len() <= self.limit && !matches!(record.data, Data::Other(_));
        if fits {
            let written = (self.message.len() - length - 2) as u16;
            self.message[length..length + 2].copy_from_slice(&written.to_be_bytes());
            self.counts[section as usize] = count;
        } else {
            self.message.truncate(before);
            self.names.retain(|_, at| usize::from(*at) < before);
        }
        fits
    }

    /// More would be to say: the client may ask again over TCP.
    pub fn truncate(&mut self) {
        self.header.truncated = true;
    }

    pub fn finish(mut self) -> Vec<u8> {
        if let Some(Edns { payload, version }) = self.edns {
            self.message.push(0);
            self.u16(kind::OPT);
            self.u16(payload);
            let code = (self.header.code >> 4) as u8;
            self.message.extend([code, version, 0, 0, 0, 0]);
            self.counts[Section::Additional as usize] += 1;
        }
        let header = &self.header;
        let flag = |is: bool, bit: u16| if is { bit } else { 0 };
        let flags = flag(header.is_response, 0x8000)
            | u16::from(header.opcode & 0xf) << 11
            | flag(header.authoritative, 0x0400)
            | flag(header.truncated, 0x0200)
            | flag(header.recursion_desired, 0x0100)
            | flag(header.recursion_available, 0x0080)
            | header.code & 0xf;
        let [answers, authorities, additionals] = self.counts;
        let words = [header.id, flags, self.questions, answers, authorities, additionals];
        for (bytes, word) in self.message.chunks_exact_mut(2).zip(words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        self.message
    }

    fn u16(&mut self, value: u16) {
        self.message.extend(value.to_be_bytes());
    }

    fn name(&mut self, name: &Name, compress: bool) {
        for suffix in name.suffixes().filter(|_| compress) {
            let lower = suffix.to_ascii_lowercase();
            if let Some(at) = self.names.get(&lower) {
                let pointer = 0xc000 | at;
                return self.u16(pointer);
            }
            if self.message.len() <= POINTED_AT_MAX {
                self.names.insert(lower, self.message.len() as u16);
            }
            let label = 1 + usize::from(suffix[0]);
            self.message.extend_from_slice(&suffix[..label]);
        }
        match compress {
            true => self.message.push(0),
            false => self.message.extend_from_slice(name.wire()),
        }
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::A(address) => self.message.extend(address.octets()),
            Data::Aaaa(address) => self.message.extend(address.octets()),
            Data::Cname(name) | Data::Ns(name) => self.name(name, true),
            Data::Srv(srv) => {
                self.u16(srv.priority);
                self.u16(srv.weight);
                self.u16(srv.port);
                // RFC 2782: name compression is not to be used for this field.
                self.name(&srv.target, false);
            }
            Data::Soa(soa) => {
                self.name(&soa.server, true);
                self.name(&soa.mailbox, true);
                for value in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    self.message.extend(value.to_be_bytes());
                }
            }
            Data::Other(_) => {}
        }
    }
}
