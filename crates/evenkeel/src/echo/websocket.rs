//! Just enough of RFC 6455 to send back what comes: frames are echoed as they arrive, of any
//! length and fragmentation, without ever holding a whole message.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use super::{Stop, stopped};

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// "All control frames MUST have a payload length of 125 bytes or less" (section 5.5).
const CONTROL_LEN_MAX: u64 = 125;
/// Section 7.4.1.
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;

/// The value of `Sec-WebSocket-Accept` (section 4.2.2).
pub(super) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// Echoes text and binary frames, answers pings and closes, until either side closes.
pub(super) async fn echo(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut stop: Stop,
) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    loop {
        let first = tokio::select! {
            first = stream.read_u8() => first?,
            () = stopped(&mut stop) => return close(&mut stream, GOING_AWAY).await,
        };
        let Some(frame) = Frame::read(first, &mut stream).await? else {
            return close(&mut stream, PROTOCOL_ERROR).await;
        };
        match frame.opcode {
            PONG => frame.copy(&mut stream, false).await?,
            PING => {
                frame.write_head(PONG, &mut stream).await?;
                frame.copy(&mut stream, true).await?;
            }
            opcode => {
                frame.write_head(opcode, &mut stream).await?;
                frame.copy(&mut stream, true).await?;
            }
        }
        stream.flush().await?;
        if frame.opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
}

async fn close(stream: &mut (impl AsyncWrite + Unpin), code: u16) -> io::Result<()> {
    let [high, low] = code.to_be_bytes();
    stream.write_all(&[0x80 | CLOSE, 2, high, low]).await?;
    stream.flush().await?;
    stream.shutdown().await
}

/// The head of a frame from a client (section 5.2).
struct Frame {
    is_final: bool,
    opcode: u8,
    len: u64,
    mask: [u8; 4],
}

impl Frame {
    /// `None`: the client broke the protocol.
    async fn read(first: u8, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let second = stream.read_u8().await?;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let len = match second & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            len => u64::from(len),
        };
        let extended = first & 0x70 != 0;
        let unmasked = second & 0x80 == 0;
        let bad_control = opcode >= CLOSE && (!is_final || len > CONTROL_LEN_MAX);
        if extended || unmasked || bad_control || !matches!(opcode, 0..=2 | CLOSE..=PONG) {
            return Ok(None);
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await?;
        Ok(Some(Self { is_final, opcode, len, mask }))
    }

    async fn write_head(
        &self,
        opcode: u8,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        stream.write_u8(if self.is_final { 0x80 | opcode } else { opcode }).await?;
        match self.len {
            0..=125 => stream.write_u8(self.len as u8).await,
            126..=0xffff => {
                stream.write_u8(126).await?;
                stream.write_u16(self.len as u16).await
            }
            _ => {
                stream.write_u8(127).await?;
                stream.write_u64(self.len).await
            }
        }
    }

    /// Takes the payload from the stream, and unmasked back to it if `echoed`.
    async fn copy<S>(&self, stream: &mut S, echoed: bool) -> io::Result<()>
    where
        S: AsyncBufRead + AsyncWrite + Unpin,
    {
        let mut buffer = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX).min(16 * 1024)];
        let mut done = 0;
        while done < self.len {
            let room = usize::try_from(self.len - done).unwrap_or(usize::MAX).min(buffer.len());
            let len = stream.read(&mut buffer[..room]).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (byte, position) in buffer[..len].iter_mut().zip(done..) {
                *byte ^= self.mask[(position % 4) as usize];
            }
            done += len as u64;
            if echoed {
                stream.write_all(&buffer[..len]).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn key_of_the_standard() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
