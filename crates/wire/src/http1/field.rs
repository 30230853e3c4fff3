//! The field section of a head: lines in, [`Header`]s and what they say together out.

use super::framing::TransferCodings;
use super::grammar::{find_control, is_token, is_token_byte, is_whitespace, trim};
use super::{FieldError, Halt, Header, HeaderKind, Span, host, parse_content_length};

/// Connection options other than the usual ones that one head may hold. Each costs a pass over the
/// headers; nobody has been seen to send more than two.
const NAMED_OPTIONS_MAX: u8 = 16;

/// One line of a field section.
pub(super) enum Line {
    Field {
        name: Span,
        /// Without the whitespace around it.
        value: Span,
    },
    /// The empty line.
    End,
}

/// Reads the line that starts at `start`; returns it with the position after its CRLF.
///
/// Checks in byte order, so that an incomplete line is refused as soon as it is wrong.
pub(super) fn scan_line(view: &[u8], start: usize) -> Result<(Line, usize), Halt<FieldError>> {
    match view.get(start) {
        None => return Err(Halt::Partial),
        Some(b'\r' | b'\n') => return Ok((Line::End, line_end(view, start)?)),
        // RFC 9112 section 5.2: "A server that receives an obs-fold in a request message ... MUST
        // either reject the message by sending a 400 (Bad Request) ... or replace each". Section
        // 2.2 says the same of whitespace between the start-line and the first field.
        Some(b' ' | b'\t') => return Err(FieldError::ObsoleteFold.into()),
        Some(b':') => return Err(FieldError::EmptyName.into()),
        Some(_) => {}
    }
    let name_length = view[start..].iter().position(|byte| !is_token_byte(*byte));
    let colon = start + name_length.ok_or(Halt::Partial)?;
    match view[colon] {
        b':' => {}
        // RFC 9112 section 5.1: "A server MUST reject, with a response status code of 400 (Bad
        // Request), any received request message that contains whitespace between a header field
        // name and colon."
        b' ' | b'\t' => return Err(FieldError::WhitespaceBeforeColon.into()),
        b'\r' | b'\n' => return Err(FieldError::MissingColon.into()),
        _ => return Err(FieldError::InvalidName.into()),
    }
    let mut value_start = colon + 1;
    while view.get(value_start).copied().is_some_and(is_whitespace) {
        value_start += 1;
    }
    let stop = find_control(view, value_start);
    let next = match view.get(stop) {
        None => return Err(Halt::Partial),
        Some(b'\r' | b'\n') => line_end(view, stop)?,
        // RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and
        // dangerous"; the other control characters are invalid as well.
        Some(_) => return Err(FieldError::ControlInValue.into()),
    };
    let mut value_end = stop;
    while value_end > value_start && is_whitespace(view[value_end - 1]) {
        value_end -= 1;
    }
    let (name, value) = (Span::new(start, colon), Span::new(value_start, value_end));
    Ok((Line::Field { name, value }, next))
}

/// The position after the CRLF at `at`, where a CR or an LF stands.
///
/// RFC 9112 section 2.2 lets a recipient take a bare LF for a line end, and has it treat a bare CR
/// as invalid; both are refused, because recipients differ in what they take.
fn line_end(view: &[u8], at: usize) -> Result<usize, Halt<FieldError>> {
    match (view[at], view.get(at + 1)) {
        (b'\n', _) => Err(FieldError::BareLf.into()),
        (_, None) => Err(Halt::Partial),
        (_, Some(b'\n')) => Ok(at + 2),
        (_, Some(_)) => Err(FieldError::BareCr.into()),
    }
}

/// What the fields of one head say together.
#[derive(Default)]
pub(super) struct FieldSection {
    pub(super) content_length: Option<u64>,
    pub(super) codings: TransferCodings,
    pub(super) host: Option<Span>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// `Connection: upgrade`
    pub(super) upgrade_option: bool,
    /// An Upgrade field that names something.
    pub(super) upgrade: bool,
    pub(super) upgrade_to_http2: bool,
    pub(super) expect_continue: bool,
    named_options: u8,
}

impl FieldSection {
    /// Reads the lines from `start` to the empty one into `headers`, which it clears first.
    /// Returns the position after the empty line.
    pub(super) fn scan(
        view: &[u8],
        start: usize,
        count_max: usize,
        headers: &mut Vec<Header>,
    ) -> Result<(FieldSection, usize), Halt<FieldError>> {
        headers.clear();
        let mut section = FieldSection::default();
        let mut at = start;
        loop {
            let (line, next) = scan_line(view, at)?;
            let Line::Field { name, value } = line else {
                section.codings_checked()?;
                section.mark_named(view, headers)?;
                return Ok((section, next));
            };
            if headers.len() >= count_max {
                return Err(FieldError::TooMany.into());
            }
            let kind = HeaderKind::of(name.of(view));
            section.note(kind, value, value.of(view))?;
            headers.push(Header { name, value, kind, hop_by_hop: kind.is_hop_by_hop() });
            at = next;
        }
    }

    fn note(&mut self, kind: HeaderKind, span: Span, value: &[u8]) -> Result<(), FieldError> {
        match kind {
            // RFC 9112 section 6.3: a message with an invalid Content-Length is an "unrecoverable
            // error"; equal duplicates may be repaired, which we do not.
            HeaderKind::ContentLength if self.content_length.is_some() => {
                return Err(FieldError::DuplicateContentLength);
            }
            HeaderKind::ContentLength => self.content_length = Some(parse_content_length(value)?),
            HeaderKind::TransferEncoding => self.codings.add(value)?,
            HeaderKind::Host => self.note_host(span, value)?,
            HeaderKind::Connection => self.note_connection(value)?,
            HeaderKind::Upgrade => {
                for protocol in value.split(|byte| *byte == b',').map(trim) {
                    self.upgrade |= !protocol.is_empty();
                    self.upgrade_to_http2 |= protocol.eq_ignore_ascii_case(b"h2c");
                }
            }
            HeaderKind::Expect => {
                self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any
    /// HTTP/1.1 request message that lacks a Host header field and to any request message that
    /// contains more than one Host header field line or a Host header field with an invalid field
    /// value."
    fn note_host(&mut self, span: Span, value: &[u8]) -> Result<(), FieldError> {
        if self.host.is_some() {
            return Err(FieldError::DuplicateHost);
        }
        if memchr::memchr(b'@', value).is_some() {
            return Err(FieldError::UserinfoInHost);
        }
        if !host::validate_host(value) {
            return Err(FieldError::InvalidHost);
        }
        self.host = Some(span);
        Ok(())
    }

    /// Options that are no token can name no field, and are passed over.
    fn note_connection(&mut self, value: &[u8]) -> Result<(), FieldError> {
        for option in value.split(|byte| *byte == b',').map(trim) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if is_token(option) && !HeaderKind::of(option).is_hop_by_hop() {
                self.named_options += 1;
                if self.named_options > NAMED_OPTIONS_MAX {
                    return Err(FieldError::TooManyConnectionOptions);
                }
            }
        }
        Ok(())
    }

    fn codings_checked(&self) -> Result<(), FieldError> {
        // RFC 9112 section 6.1: "A server MAY reject a request that contains both Content-Length
        // and Transfer-Encoding"; section 6.3: it "ought to be handled as an error".
        if self.codings.is_present() && self.content_length.is_some() {
            return Err(FieldError::ContentLengthWithTransferEncoding);
        }
        self.codings.check()
    }

    /// RFC 9110 section 7.6.1: "Intermediaries MUST parse a received Connection header field before
    /// a message is forwarded and, for each connection-option in this field, remove any header or
    /// trailer field(s) from the message with the same name as the connection-option".
    fn mark_named(&self, view: &[u8], headers: &mut [Header]) -> Result<(), FieldError> {
        if self.named_options == 0 {
            return Ok(());
        }
        for position in 0..headers.len() {
            if headers[position].kind != HeaderKind::Connection {
                continue;
            }
            let options = headers[position].value.of(view);
            for option in options.split(|byte| *byte == b',').map(trim) {
                // Removing one of these would change where the message ends or whom it is for.
                match HeaderKind::of(option) {
                    HeaderKind::Host | HeaderKind::ContentLength => {
                        return Err(FieldError::ConnectionNamesEndToEndField);
                    }
                    kind if kind.is_hop_by_hop() => continue,
                    _ => {}
                }
                for header in headers.iter_mut() {
                    header.hop_by_hop |= header.name.of(view).eq_ignore_ascii_case(option);
                }
            }
        }
        Ok(())
    }
}
