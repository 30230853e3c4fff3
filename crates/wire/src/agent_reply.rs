//! The reply of a health agent: one line of text that a program beside an endpoint says about it.
//!
//! The format is HAProxy's (its configuration manual, `agent-check`): words separated by spaces,
//! tabs or commas, up to the first end of line.
//!
//! ```text
//! 75%                          of the weight that is configured
//! drain                        the same as 0%
//! ready  up                    whatever it said before is over
//! maint  stopped#upgrade       out, with a text for people
//! down   fail#disk is full     out; the text goes on to the end of the line
//! cpu:83%  memory:40%          how much of each it uses (ours)
//! ```
//!
//! What is not said stays as it was. Words that are not known, such as `maxconn:30`, are passed over,
//! so that agents that were written for HAProxy work. Nothing is allocated but the text.

use model::{AgentReply, AgentStanding};

/// More of a reply is not read.
pub const REPLY_BYTES_MAX: usize = 1024;

/// Of the weight that is configured, in percent: HAProxy's bound is a weight of 256.
const PERCENT_MAX: u16 = 25_600;

/// Whether the line is whole: what follows does not count.
pub fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= REPLY_BYTES_MAX || bytes.iter().any(|byte| is_end(*byte))
}

/// Reads the first line; `None` if it says nothing that is known.
pub fn decode(bytes: &[u8]) -> Option<AgentReply> {
    let line = bytes.get(..REPLY_BYTES_MAX).unwrap_or(bytes);
    let line = String::from_utf8_lossy(line.split(|byte| is_end(*byte)).next()?);
    let mut reply = AgentReply::default();
    let mut rest = line.as_ref();
    while let Some(word) = next_word(&mut rest) {
        if let Some(percent) = percent(word) {
            reply.percent = Some(percent);
            continue;
        }
        let (name, value) = word.split_at(word.find([':', '#']).unwrap_or(word.len()));
        match name {
            "up" => reply.standing = Some(AgentStanding::Up),
            "ready" => {
                reply.standing = Some(AgentStanding::Up);
                reply.percent.get_or_insert(100);
            }
            "drain" => reply.percent = Some(0),
            "down" | "fail" | "stopped" | "maint" => {
                // A text may have spaces: it is the last.
                let text = value.strip_prefix('#').map(|text| [text, rest].concat());
                let ends = text.is_some();
                reply.standing = Some(AgentStanding::Down(describe(name, text.as_deref())));
                if ends {
                    break;
                }
            }
            "cpu" => reply.utilization.get_or_insert_default().cpu = share(value),
            "memory" => reply.utilization.get_or_insert_default().memory = share(value),
            _ => {}
        }
    }
    (reply != AgentReply::default()).then_some(reply)
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

fn next_word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let separates = [' ', '\t', ','];
    let line = rest.trim_start_matches(separates);
    let (word, after) = line.split_at(line.find(separates).unwrap_or(line.len()));
    *rest = after;
    (!word.is_empty()).then_some(word)
}

fn percent(word: &str) -> Option<u16> {
    let number = word.strip_suffix('%')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u16>().ok().filter(|percent| digits && *percent <= PERCENT_MAX)
}

/// In thousandths of the resource.
fn share(value: &str) -> Option<u16> {
    percent(value.strip_prefix(':')?).and_then(|percent| percent.checked_mul(10))
}

fn describe(word: &str, text: Option<&str>) -> String {
    let text: String =
        text.unwrap_or_default().trim().chars().filter(|letter| !letter.is_control()).collect();
    if text.is_empty() { word.to_owned() } else { format!("{word}: {text}") }
}

#[cfg(test)]
mod tests {
    use model::Utilization;

    use super::*;

    fn standing(text: &str) -> Option<AgentStanding> {
        decode(text.as_bytes()).and_then(|reply| reply.standing)
    }

    #[test]
    fn the_words_of_haproxy() {
        let parse = |text: &str| decode(text.as_bytes());
        let percent = |percent| AgentReply { percent: Some(percent), ..AgentReply::default() };
        assert_eq!(parse("75%\n"), Some(percent(75)));
        assert_eq!(parse(" 0% \r\n"), Some(percent(0)));
        assert_eq!(parse("drain"), Some(percent(0)));
        assert_eq!(parse("25600%"), Some(percent(25_600)));
        let up = AgentReply { standing: Some(AgentStanding::Up), ..AgentReply::default() };
        assert_eq!(parse("up\n"), Some(up.clone()));
        assert_eq!(parse("up 50%\n"), Some(AgentReply { percent: Some(50), ..up.clone() }));
        assert_eq!(parse("ready\n"), Some(AgentReply { percent: Some(100), ..up.clone() }));
        assert_eq!(parse("5%,ready,maxconn:30"), Some(AgentReply { percent: Some(5), ..up }));
    }

    #[test]
    fn reasons_go_to_the_end_of_the_line() {
        let down = |text: &str| Some(AgentStanding::Down(text.into()));
        assert_eq!(standing("down\n"), down("down"));
        assert_eq!(standing("maint up"), Some(AgentStanding::Up));
        assert_eq!(standing("fail#disk is full, up\nup"), down("fail: disk is full, up"));
        assert_eq!(standing("stopped# \x1b[1mbold"), down("stopped: [1mbold"));
    }

    #[test]
    fn utilization() {
        let reply = decode(b"up cpu:83% memory:4%").unwrap();
        let expected = Utilization { cpu: Some(830), memory: Some(40), application: None };
        assert_eq!(reply.utilization, Some(expected));
    }

    #[test]
    fn what_is_not_known_says_nothing() {
        for text in ["", "\nup", "maxconn:30", "101", "%", "-5%", "+5%", "25601%", "99999%", "UP"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
        assert!(!is_whole(b"up"));
        assert!(is_whole(b"up\n") && is_whole(&[b'u'; REPLY_BYTES_MAX]));
        let endless = [b"down#".as_slice(), &[b'x'; 10_000]].concat();
        let Some(AgentStanding::Down(text)) = decode(&endless).unwrap().standing else {
            panic!("it is down");
        };
        assert!(text.len() <= REPLY_BYTES_MAX + ": ".len());
    }
}
