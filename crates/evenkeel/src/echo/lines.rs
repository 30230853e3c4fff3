use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::detect::Begun;
use super::{Task, stopped};

/// Bytes read at once.
const READ_LEN: usize = 64 * 1024;

/// Answers each line with the replica's name, a space and the line. Lines may have any length:
/// an answer begins when the line does.
pub(super) async fn answer(mut stream: Begun, mut task: Task) -> io::Result<()> {
    let mut buffer = vec![0; READ_LEN];
    let mut named = Named { name: format!("{} ", task.replica.name), inside: false };
    let mut answer = Vec::new();
    loop {
        let len = tokio::select! {
            len = stream.read(&mut buffer) => len?,
            () = stopped(&mut task.stop) => 0,
        };
        if len == 0 {
            return stream.shutdown().await;
        }
        answer.clear();
        named.write(&buffer[..len], &mut answer);
        stream.write_all(&answer).await?;
    }
}

struct Named {
    name: String,
    /// A line has begun and has not ended.
    inside: bool,
}

impl Named {
    fn write(&mut self, bytes: &[u8], answer: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.inside {
                answer.extend_from_slice(self.name.as_bytes());
            }
            answer.extend_from_slice(piece);
            self.inside = !piece.ends_with(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_named_once_however_it_arrives() {
        let mut named = Named { name: "a ".to_owned(), inside: false };
        let mut answer = Vec::new();
        for piece in ["one\ntw", "o", "\n\nthree"] {
            named.write(piece.as_bytes(), &mut answer);
        }
        assert_eq!(String::from_utf8(answer).unwrap(), "a one\na two\na \na three");
    }
}
