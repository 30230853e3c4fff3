//! What an answer means. The care is in telling "there is none", which only he may say who knows,
//! from "I do not know".

use std::time::Duration;

use wire::dns::{Data, Message, Name, Question, code, kind};

/// Aliases that are followed for one question; resolvers stop at about as many.
pub(super) const ALIASES_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Found {
        records: Vec<Data>,
        ttl: Duration,
    },
    /// There is none, and how long that holds, if that is said.
    None {
        why: String,
        ttl: Option<Duration>,
    },
    /// It is to be asked for under another name, which holds for so long.
    Alias(Name, Duration),
    /// It does not say.
    Failed(String),
}

pub(super) fn meaning(message: &Message, question: &Question) -> Meaning {
    let header = &message.header;
    if !matches!(header.code, code::NO_ERROR | code::NAME_ERROR) {
        return Meaning::Failed(code::name(header.code));
    }
    let mut name = &question.name;
    let mut ttl = u32::MAX;
    let mut aliases = 0;
    loop {
        let here = message.answers.iter().filter(|record| record.name == *name);
        let records: Vec<_> =
            here.clone().filter(|record| record.data.kind() == question.kind).collect();
        if !records.is_empty() {
            let ttl = records.iter().map(|record| record.ttl).fold(ttl, u32::min);
            let records = records.into_iter().map(|record| record.data.clone()).collect();
            return Meaning::Found { records, ttl: seconds(ttl) };
        }
        let alias = here.clone().find_map(|record| match &record.data {
            Data::Cname(target) => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = alias else { break };
        aliases += 1;
        if aliases > ALIASES_MAX {
            return Meaning::Failed("aliases that lead nowhere".to_owned());
        }
        (name, ttl) = (target, ttl.min(alias_ttl));
    }
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        Data::Soa(soa) => Some(seconds(record.ttl.min(soa.minimum))),
        _ => None,
    });
    if header.code == code::NAME_ERROR {
        return Meaning::None { why: code::name(header.code), ttl: soa };
    }
    if aliases > 0 && soa.is_none() {
        return Meaning::Alias(name.clone(), seconds(ttl));
    }
    // Neither from who knows nor from who looks further: it only tells whom to ask.
    if soa.is_none() && !header.authoritative && !header.recursion_available {
        return Meaning::Failed("an answer that refers to other servers".to_owned());
    }
    let what = match question.kind {
        kind::A => "A",
        kind::AAAA => "AAAA",
        _ => "SRV",
    };
    Meaning::None { why: format!("it has no {what} records"), ttl: soa }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

#[cfg(test)]
mod tests {
    use wire::dns::{CLASS_IN, Header, Record, Soa};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn record(owner: &str, ttl: u32, data: Data) -> Record {
        Record { name: name(owner), ttl, data }
    }

    fn a(owner: &str, ttl: u32) -> Record {
        record(owner, ttl, Data::A([10, 0, 0, 1].into()))
    }

    fn alias(owner: &str, target: &str) -> Record {
        record(owner, 7, Data::Cname(name(target)))
    }

    fn check(flags: &str, answers: Vec<Record>, soa: bool, expected: &str) {
        let header = Header {
            is_response: true,
            authoritative: flags.contains("aa"),
            recursion_available: flags.contains("ra"),
            code: if flags.contains("nx") {
                code::NAME_ERROR
            } else if flags.contains("fail") {
                code::SERVER_FAILURE
            } else {
                code::NO_ERROR
            },
            ..Header::default()
        };
        let question = Question { name: name("web.test"), kind: kind::A, class: CLASS_IN };
        let zone = Soa {
            server: name("ns"),
            mailbox: name("m"),
            serial: 0,
            refresh: 0,
            retry: 0,
            expire: 0,
            minimum: 9,
        };
        let soa = soa.then(|| record("test", 60, Data::Soa(Box::new(zone))));
        let message = Message {
            header,
            question: Some(question.clone()),
            answers,
            authorities: soa.into_iter().collect(),
            additionals: Vec::new(),
            edns: None,
        };
        let found = match meaning(&message, &question) {
            Meaning::Found { records, ttl } => format!("{} for {}", records.len(), ttl.as_secs()),
            Meaning::None { why, ttl } => {
                format!("none, {why}, {:?}", ttl.map(|ttl| ttl.as_secs()))
            }
            Meaning::Alias(name, ttl) => format!("alias {name} for {}", ttl.as_secs()),
            Meaning::Failed(why) => why,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn meanings() {
        check("ra", vec![a("web.test", 5), a("WEB.test", 3)], false, "2 for 3");
        check("ra", vec![a("other.test", 5)], false, "none, it has no A records, None");
        check("aa", vec![], true, "none, it has no A records, Some(9)");
        check("", vec![], true, "none, it has no A records, Some(9)");
        check("", vec![], false, "an answer that refers to other servers");
        check("ra nx", vec![], true, "none, NXDOMAIN, Some(9)");
        check("aa nx", vec![], false, "none, NXDOMAIN, None");
        check("ra fail", vec![a("web.test", 5)], false, "SERVFAIL");
        check("ra", vec![alias("web.test", "b"), a("b", 60)], false, "1 for 7");
        check("ra", vec![a("b", 5), alias("web.test", "b")], false, "1 for 5");
        check("aa", vec![alias("web.test", "far.example")], false, "alias far.example for 7");
        check("ra", vec![alias("web.test", "b")], true, "none, it has no A records, Some(9)");
        check("ra nx", vec![alias("web.test", "b")], true, "none, NXDOMAIN, Some(9)");
        let circle = vec![alias("web.test", "b"), alias("b", "web.test")];
        check("ra", circle, false, "aliases that lead nowhere");
    }
}
