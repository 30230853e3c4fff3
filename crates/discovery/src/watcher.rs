//! The watcher: a small process that holds the engine's socket, so that the process that carries
//! traffic never does. It writes [`Message`]s to its standard output and ends when its standard
//! input ends; nothing can be asked of it.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::backoff::Backoff;
use crate::providers::{self, Provider, WatchOptions};
use crate::{LINE_BYTES_MAX, Message};

/// The hidden verb under which the binary offers [`run`]: `__watcher PROVIDER SOCKET [MILLIS]`.
pub const VERB: &str = "__watcher";

/// Messages that wait in the watcher for the balancer to read them. Beyond it the engine waits.
const MESSAGES: usize = 256;

/// A watcher on behalf of this process; ends when dropped.
pub struct Watcher {
    task: JoinHandle<()>,
}

impl Watcher {
    /// Keeps a watcher running and passes on what it says. In a runtime. `program`: what offers
    /// [`VERB`]; default: this very program.
    pub fn start(
        provider: &'static Provider,
        options: WatchOptions,
        program: Option<PathBuf>,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        let program = program.unwrap_or_else(this_program);
        Self { task: tokio::spawn(keep(provider, options, program, messages)) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts another as soon as the one that there is has ended.
async fn keep(
    provider: &'static Provider,
    options: WatchOptions,
    program: PathBuf,
    messages: mpsc::Sender<Message>,
) {
    let mut backoff = Backoff::new(options.seed);
    loop {
        let ended = match launch(provider, &options, &program) {
            Ok(mut child) => {
                let ended = follow(&mut child, &mut backoff, &messages).await;
                // What it said may be half of something.
                let _ = child.kill().await;
                ended
            }
            Err(error) => Err(error),
        };
        let reason = match ended {
            Ok(()) => "it ended".to_owned(),
            Err(error) => error.to_string(),
        };
        warn!("the {} watcher is gone ({reason}); starting another", provider.name);
        let reason = format!("the watcher is gone: {reason}");
        if messages.send(Message::Lost { reason }).await.is_err() {
            return;
        }
        sleep(backoff.wait()).await;
    }
}

fn launch(provider: &Provider, options: &WatchOptions, program: &PathBuf) -> io::Result<Child> {
    let millis = options.statistics.map_or(0, |interval| interval.as_millis());
    Command::new(program)
        .arg0("evenkeel")
        .args([VERB, provider.name])
        .arg(&options.socket)
        .arg(millis.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        // A terminal's Ctrl-C is for us; while we drain, the watcher is still needed.
        .process_group(0)
        .spawn()
}

async fn follow(
    child: &mut Child,
    backoff: &mut Backoff,
    messages: &mpsc::Sender<Message>,
) -> io::Result<()> {
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::with_capacity(64 * 1024, output);
    while let Some(line) = bounded_line(&mut lines).await? {
        let Some(message) = Message::from_line(&line) else {
            return Err(io::Error::other("it said something that is not understood"));
        };
        if matches!(message, Message::Connected { .. }) {
            backoff.reset();
        }
        debug!("watcher: {message:?}");
        messages.send(message).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

/// The next line without its end; `None` at the end of the stream.
async fn bounded_line(
    input: &mut BufReader<impl AsyncRead + Unpin>,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let block = input.fill_buf().await?;
        if block.is_empty() {
            return Ok(None);
        }
        let end = block.iter().position(|byte| *byte == b'\n');
        let part = &block[..end.unwrap_or(block.len())];
        if line.len() + part.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("it said too much at once"));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// The path of this program, or, when its file was replaced since it started, the kernel's own
/// reference to it.
fn this_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// The watcher's own life: what the binary does for the verb [`VERB`].
pub fn run(provider: &str, socket: PathBuf, statistics_millis: u64) -> ExitCode {
    let Some(provider) = providers::find(provider) else { return ExitCode::FAILURE };
    let statistics = (statistics_millis > 0).then(|| Duration::from_millis(statistics_millis));
    let seed = u64::from(std::process::id());
    let options = WatchOptions { socket, statistics, seed };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    std::thread::spawn(|| {
        // Nobody writes to it: this returns when the balancer is gone, however that came.
        let _ = io::stdin().lock().read(&mut [0; 1]);
        std::process::exit(0);
    });
    runtime.block_on(async {
        let (sender, mut messages) = mpsc::channel(MESSAGES);
        tokio::spawn((provider.watch)(options, sender));
        let mut output = io::BufWriter::new(io::stdout().lock());
        while let Some(message) = messages.recv().await {
            // Blocks when the balancer is slow; then there is nothing better to do than to wait.
            let written = output.write_all(&message.to_line());
            let flushed = if messages.is_empty() { output.flush() } else { Ok(()) };
            if written.and(flushed).is_err() {
                break;
            }
        }
    });
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let read = async |bytes: &[u8]| {
            let mut input = BufReader::with_capacity(7, bytes);
            let mut lines = Vec::new();
            loop {
                match bounded_line(&mut input).await {
                    Ok(Some(line)) => lines.push(line.len().to_string()),
                    Ok(None) => break,
                    Err(_) => {
                        lines.push("too long".into());
                        break;
                    }
                }
            }
            lines
        };
        assert_eq!(read(b"one\n\nthree and more\nunfinished").await, ["3", "0", "14"]);
        let long = [vec![b'x'; LINE_BYTES_MAX], b"\n".to_vec()].concat();
        assert_eq!(read(&long).await, [LINE_BYTES_MAX.to_string()]);
        let longer = [b"x".to_vec(), long].concat();
        assert_eq!(read(&longer).await, ["too long"]);
    }
}
