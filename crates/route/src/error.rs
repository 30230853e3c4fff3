//! What can be wrong with a route, and with which one.

use std::fmt;

/// The route at `index` of those given cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    pub index: usize,
    pub defect: RouteDefect,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}: {}", self.index + 1, self.defect)
    }
}

impl std::error::Error for RouteError {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteDefect {
    HostEmpty,
    HostTooLong {
        host: String,
    },
    PathWithoutSlash {
        path: String,
    },
    /// `.` or `..` as a segment: no normalised request path holds one, so it would never match.
    PathWithDotSegment {
        path: String,
    },
    Regex {
        pattern: String,
        message: String,
    },
    /// `rewrite` replaces a prefix, but a regex has none.
    PrefixOfRegex,
    /// A byte in a rewrite that cannot stand in a path (RFC 3986 section 3.3).
    RewriteByte {
        text: String,
        byte: u8,
    },
    RewriteGroupUnknown {
        text: String,
        group: String,
    },
    RewriteGroupUnclosed {
        text: String,
    },
}

impl fmt::Display for RouteDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostEmpty => write!(f, "the host is empty; leave it out to match every host"),
            Self::HostTooLong { host } => {
                write!(f, "the host `{host}` is longer than {} bytes", crate::host::LEN_MAX)
            }
            Self::PathWithoutSlash { path } => {
                write!(f, "the path `{path}` must begin with `/`")
            }
            Self::PathWithDotSegment { path } => {
                write!(f, "the path `{path}` holds `.` or `..`; write it without them")
            }
            Self::Regex { pattern, message } => {
                write!(f, "`{pattern}` is not a regular expression: {message}")
            }
            Self::PrefixOfRegex => write!(
                f,
                "a path given as a regex has no prefix to replace; \
                 replace the whole path, with `$1` for its first group"
            ),
            Self::RewriteByte { text, byte } => write!(
                f,
                "the path `{}` holds the byte 0x{byte:02x}, which a path cannot; \
                 write it as `%{byte:02X}`",
                text.escape_debug()
            ),
            Self::RewriteGroupUnknown { text, group } => write!(
                f,
                "`{text}` names the group `{group}`, which the path's regex does not have; \
                 write `${{1}}x` when letters follow a number, and `$$` for a dollar sign"
            ),
            Self::RewriteGroupUnclosed { text } => {
                write!(f, "`{text}` has a `${{` without its `}}`, or a `$` without a group")
            }
        }
    }
}
