//! The cases of h2spec 2.6 (<https://github.com/summerwind/h2spec>), by group and number, and which
//! of ours does the same.
//!
//! Its groups go by the sections of RFC 7540; ours are those of RFC 9113.

/// Groups of h2spec, and the names of our cases for its first, second, ... one.
pub(crate) const H2SPEC: &[(&str, &[&str])] = &[
    ("generic/1", &["the preface and an empty SETTINGS"]),
    (
        "generic/2",
        &[
            "PRIORITY on an idle stream",
            "WINDOW_UPDATE on a half-closed stream",
            "PRIORITY on a half-closed stream",
            "RST_STREAM on a half-closed stream",
            "PRIORITY after RST_STREAM",
        ],
    ),
    (
        "generic/3.1",
        &["a request with a body", "a body as long as content-length says", "DATA with padding"],
    ),
    (
        "generic/3.2",
        &["a request without a body", "HEADERS with padding", "HEADERS with a priority"],
    ),
    (
        "generic/3.3",
        &[
            "PRIORITY of every kind, and a lower stream after it",
            "PRIORITY of every kind, and a lower stream after it",
            "PRIORITY of every kind, and a lower stream after it",
            "PRIORITY of every kind, and a lower stream after it",
            "PRIORITY of every kind, and a lower stream after it",
        ],
    ),
    ("generic/3.4", &["WINDOW_UPDATE after RST_STREAM"]),
    ("generic/3.5", &["SETTINGS are acknowledged, each"]),
    ("generic/3.7", &["PING"]),
    ("generic/3.8", &["what was asked before GOAWAY is answered"]),
    ("generic/3.9", &["a window that becomes negative", "WINDOW_UPDATE on a half-closed stream"]),
    ("generic/3.10", &["a field block in two frames", "a field block in as many frames as bytes"]),
    // The second is HEAD, whose answer depends on what answers: `heads_without_bodies_end_their_streams`
    // of the end-to-end tests.
    (
        "generic/4",
        &[
            "a request without a body",
            "OPTIONS",
            "a request with a body",
            "a request with trailers",
        ],
    ),
    (
        "generic/5",
        &[
            "an indexed field",
            "indexing, a known name",
            "indexing, a known name, Huffman",
            "indexing, a new name",
            "indexing, a new name, Huffman",
            "no indexing, a known name",
            "no indexing, a known name, Huffman",
            "no indexing, a new name",
            "no indexing, a new name, Huffman",
            "never indexed, a known name",
            "never indexed, a known name, Huffman",
            "never indexed, a new name",
            "never indexed, a new name, Huffman",
            "two changes of the table size at the start",
            "two changes of the table size at the start",
        ],
    ),
    (
        "http2/3.5",
        &["a request before the server's SETTINGS", "another text instead of the preface"],
    ),
    (
        "http2/4.1",
        &[
            "a frame of unknown type",
            "flags that mean nothing",
            "the reserved bit of a stream number",
        ],
    ),
    ("http2/4.2", &["DATA of 16,384 bytes", "DATA of 16,385 bytes", "HEADERS of 16,385 bytes"]),
    ("http2/4.3", &["a literal that is cut", "PRIORITY in between", "another HEADERS in between"]),
    (
        "http2/5.1",
        &[
            "DATA on an idle stream",
            "RST_STREAM on an idle stream",
            "WINDOW_UPDATE on an idle stream",
            "CONTINUATION on an idle stream",
            "DATA on a half-closed stream",
            "HEADERS on a half-closed stream",
            "CONTINUATION on a half-closed stream",
            "DATA after RST_STREAM",
            "HEADERS after RST_STREAM",
            "CONTINUATION after RST_STREAM",
            "DATA on a closed stream",
            "a number that was used",
            "CONTINUATION on a closed stream",
        ],
    ),
    ("http2/5.1.1", &["an even stream number", "a number below the last one"]),
    ("http2/5.1.2", &["more streams than allowed"]),
    (
        "http2/5.3.1",
        &["HEADERS that depend on their own stream", "PRIORITY that depends on its own stream"],
    ),
    ("http2/5.4.1", &["nothing is served after a connection error", "PING on a stream"]),
    ("http2/5.5", &["a frame of unknown type", "an unknown frame within a field block"]),
    (
        "http2/6.1",
        &[
            "DATA on stream 0",
            "DATA on a half-closed stream",
            "DATA with padding as long as its payload",
        ],
    ),
    (
        "http2/6.2",
        &[
            "PRIORITY in between",
            "another HEADERS in between",
            "HEADERS on stream 0",
            "HEADERS with padding longer than the rest",
        ],
    ),
    ("http2/6.3", &["PRIORITY on stream 0", "PRIORITY of 4 bytes"]),
    (
        "http2/6.4",
        &["RST_STREAM on stream 0", "RST_STREAM on an idle stream", "RST_STREAM of 3 bytes"],
    ),
    (
        "http2/6.5",
        &["an acknowledgement with a payload", "SETTINGS on a stream", "SETTINGS of 5 bytes"],
    ),
    (
        "http2/6.5.2",
        &[
            "ENABLE_PUSH of 2",
            "INITIAL_WINDOW_SIZE above 2^31-1",
            "MAX_FRAME_SIZE below 16,384",
            "MAX_FRAME_SIZE above 2^24-1",
            "an unknown setting",
        ],
    ),
    ("http2/6.5.3", &["the last of two values counts", "SETTINGS are acknowledged, each"]),
    (
        "http2/6.7",
        &["PING", "an answer that nobody asked for", "PING on a stream", "PING of 6 bytes"],
    ),
    ("http2/6.8", &["GOAWAY on a stream"]),
    (
        "http2/6.9",
        &["WINDOW_UPDATE of 0", "WINDOW_UPDATE of 0 for a stream", "WINDOW_UPDATE of 3 bytes"],
    ),
    (
        "http2/6.9.1",
        &[
            "a window of 1",
            "the window of the connection above 2^31-1",
            "the window of a stream above 2^31-1",
        ],
    ),
    (
        "http2/6.9.2",
        &[
            "a window that is raised later",
            "a window that becomes negative",
            "INITIAL_WINDOW_SIZE above 2^31-1",
        ],
    ),
    (
        "http2/6.10",
        &[
            "a field block in as many frames as bytes",
            "DATA in between",
            "CONTINUATION on stream 0",
            "CONTINUATION after the end of the block",
            "CONTINUATION after the last CONTINUATION",
            "CONTINUATION after DATA",
        ],
    ),
    ("http2/7", &["GOAWAY with an unknown code", "RST_STREAM with an unknown code"]),
    ("http2/8.1", &["trailers that do not end the stream"]),
    ("http2/8.1.2", &["a name in upper case"]),
    (
        "http2/8.1.2.1",
        &[
            "an unknown pseudo-header field",
            ":status in a request",
            "a pseudo-header field in trailers",
            "a pseudo-header field after a field",
        ],
    ),
    ("http2/8.1.2.2", &["connection", "te with another value"]),
    (
        "http2/8.1.2.3",
        &[
            "an empty :path",
            "no :method",
            "no :scheme",
            "no :path",
            ":method twice",
            ":scheme twice",
            ":path twice",
        ],
    ),
    (
        "http2/8.1.2.6",
        &["a body longer than content-length says", "a body shorter than content-length says"],
    ),
    ("http2/8.2", &["PUSH_PROMISE from a client"]),
    ("hpack/2.3.3", &["an index that no table has"]),
    ("hpack/4.2", &["a change of the table size after a field"]),
    (
        "hpack/5.2",
        &[
            "padding of a Huffman string longer than seven bits",
            "wrong padding of a Huffman string",
            "the end-of-string symbol within a string",
        ],
    ),
    ("hpack/6.1", &["index 0"]),
    ("hpack/6.3", &["a table larger than allowed"]),
];
