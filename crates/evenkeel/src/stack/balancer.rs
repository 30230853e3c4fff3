//! The process in front of a project: `evenkeel run`, with a configuration made from the Compose
//! file, in a folder of its own.

use std::fs;
use std::hash::Hasher;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use compose::Engine;
use compose::balancer::{Listened, Settings, configuration};
use compose::engine::Address;
use compose::project::Project;
use model::status::ScalingStatus;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::client::AdminClient;
use crate::control::vocabulary;
use crate::failure::Failure;

/// Where `status` and its relatives ask by default.
const ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9900);

/// Until it answers, or has ended. Its own grace for what is in flight is 30 s.
const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(40);

const POLL: Duration = Duration::from_millis(20);

/// Decisions of `autoscale` that are kept, as many as the balancer keeps.
const DECISIONS_MAX: usize = 32;

/// Where it is, running or not.
#[derive(Clone)]
pub(crate) struct Balancer {
    folder: PathBuf,
    /// What the user asks for.
    wanted: Option<SocketAddr>,
    socket: PathBuf,
}

impl Balancer {
    pub(super) fn of(
        project: &Project,
        engine: &Engine,
        wanted: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let engine = engine.address();
        // The same name on another engine is another project.
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        hasher.write(engine.to_string().as_bytes());
        let name = format!("{}-{:08x}", project.name, hasher.finish() as u32);
        let socket = match engine {
            Address::Unix(path) => path.clone(),
            _ => PathBuf::new(),
        };
        Ok(Self { folder: state_folder()?.join(name), wanted, socket })
    }

    /// Of the project.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self) -> PathBuf {
        self.folder.join("evenkeel.yaml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A note of ours in its folder.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        make_folder(&self.folder)?;
        write(&self.folder.join(name), text)
    }

    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.folder.join(name));
    }

    /// Keeps the last of what `autoscale` decided, for `ps` and for the next start. That it could not
    /// be kept is no reason to fail.
    pub(super) fn keep(&self, decisions: &mut Vec<ScalingStatus>) {
        let surplus = decisions.len().saturating_sub(DECISIONS_MAX);
        decisions.drain(..surplus);
        let text = serde_json::to_string(decisions).unwrap_or_default();
        let _ = self.write("autoscale", &text);
    }

    /// What it decided last, the oldest first.
    pub(crate) fn decisions(&self) -> Vec<ScalingStatus> {
        serde_json::from_str(&self.read("autoscale").unwrap_or_default()).unwrap_or_default()
    }

    /// Tells it of a decision, for `status`. That it has not heard is no reason to fail.
    pub(super) fn tell(&self, decision: &ScalingStatus) {
        if let (Some(client), Ok(decision)) = (self.client(), serde_json::to_value(decision)) {
            let _ = client.post("/v1/autoscale", Some(&decision));
        }
    }

    /// Its admin API, if it runs.
    pub(crate) fn client(&self) -> Option<AdminClient> {
        self.pid()?;
        self.admin().map(AdminClient::at)
    }

    /// Of the last start.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.folder.join("admin")).ok()?.trim().parse().ok()
    }

    /// The process, if it is still ours.
    fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.folder.join("pid")).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let file = self.file();
        let file = file.as_os_str().as_encoded_bytes();
        // Another process may have its number by now.
        let ours = line.split(|byte| *byte == 0).any(|word| word == file);
        Pid::from_raw(pid).filter(|_| ours)
    }

    /// Makes it serve the project as the file says; it is started if it does not run, and ended if
    /// there is nothing to balance. Ports that containers still have are left out. Answers what it
    /// listens on.
    pub(crate) fn serve(
        &self,
        project: &Project,
        held: &[(u16, String)],
    ) -> Result<Vec<Listened>, Failure> {
        let running = self.client();
        let admin = match (self.wanted, self.admin(), &running) {
            (_, Some(admin), Some(_)) => admin,
            (Some(wanted), _, _) => wanted,
            _ => free_address()?,
        };
        let settings = Settings { admin, socket: &self.socket, held };
        let Some((text, listened)) = configuration(project, &settings)? else {
            self.stop()?;
            return Ok(Vec::new());
        };
        let file = self.file();
        let source = config::Source { name: "the balancer's configuration", text: &text };
        config::parse(&source, &vocabulary()).map_err(|defects| {
            let message = "what the Compose file says of the balancer (`x-evenkeel`, `ports` and \
                           labels `evenkeel.*`) makes no configuration";
            Failure::Job(format!("{message}:\n{defects}"))
        })?;
        match running {
            Some(client) => {
                if fs::read_to_string(&file).is_ok_and(|current| current == text) {
                    return Ok(listened);
                }
                // The answer says whether it could be done; the file is for the next start.
                client.post_config(&text)?;
                write(&file, &text)?;
            }
            None => {
                make_folder(&self.folder)?;
                write(&file, &text)?;
                write(&self.folder.join("admin"), &admin.to_string())?;
                self.start(admin)?;
            }
        }
        Ok(listened)
    }

    fn start(&self, admin: SocketAddr) -> Result<(), Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::Job(format!("cannot {what} the balancer: {error}"))
        };
        let program = std::env::current_exe().map_err(|error| failed("find", &error))?;
        let log = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.log())
            .map_err(|error| failed("log", &error))?;
        let errors = log.try_clone().map_err(|error| failed("log", &error))?;
        let mut child = Command::new(program)
            .args(["run", "-c"])
            .arg(self.file())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C that ends the verb does not end the balancer.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("start", &error))?;
        write(&self.folder.join("pid"), &child.id().to_string())?;
        let client = AdminClient::at(admin);
        let begun = Instant::now();
        while client.get("/v1/listeners").is_err() {
            let ended = child.try_wait().ok().flatten().is_some();
            if ended || begun.elapsed() > START_MAX {
                let said = fs::read_to_string(self.log()).unwrap_or_default();
                let why = if ended { "it ended" } else { "it does not answer" };
                let _ = fs::remove_file(self.folder.join("pid"));
                return Err(failed("start", &format!("{why}; it said:\n{}", said.trim_end())));
            }
            std::thread::sleep(POLL);
        }
        // What the one before it knew of them is gone with it.
        self.decisions().iter().for_each(|decision| self.tell(decision));
        Ok(())
    }

    /// Lets it finish what it has, and waits for its end.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::TERM);
            let begun = Instant::now();
            while self.pid().is_some() && !is_zombie(pid) {
                if begun.elapsed() > STOP_MAX {
                    return Err(Failure::Job("the balancer does not end".into()));
                }
                std::thread::sleep(POLL);
            }
        }
        for name in ["pid", "admin", "autoscale"] {
            let _ = fs::remove_file(self.folder.join(name));
        }
        Ok(())
    }

    /// After `down`: nothing of it is left.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        self.stop()?;
        let _ = fs::remove_dir_all(&self.folder);
        Ok(())
    }
}

/// It has ended, and its parent, which may be we, has not asked how.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Where the states of balancers are: `EVENKEEL_STATE`, or the user's folder for what does not
/// outlive the machine's run.
fn state_folder() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("EVENKEEL_STATE") {
        return std::path::absolute(PathBuf::from(folder))
            .map_err(|error| Failure::Job(format!("EVENKEEL_STATE: {error}")));
    }
    if let Some(folder) = variable("XDG_RUNTIME_DIR") {
        return Ok(PathBuf::from(folder).join("evenkeel"));
    }
    let user = geteuid();
    if user.is_root() {
        return Ok("/run/evenkeel".into());
    }
    // Anybody could have made it, in a folder where everybody may.
    let folder = std::env::temp_dir().join(format!("evenkeel-{}", user.as_raw()));
    make_folder(&folder)?;
    Ok(folder)
}

/// Only we may look in: what a configuration says is nobody else's business, and whoever could
/// write there could name the address to which drains are sent.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::Job(format!("{}: {error}", folder.display()));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| failed(&error))?;
    let made = folder.symlink_metadata().map_err(|error| failed(&error))?;
    if !made.is_dir() {
        return Err(failed(&"is not a folder but leads to one"));
    }
    if made.uid() != geteuid().as_raw() {
        return Err(failed(&"belongs to another user"));
    }
    if made.mode() & 0o022 != 0 {
        return Err(failed(&"can be written by others; `chmod 700` it"));
    }
    Ok(())
}

/// A new file takes the old one's name.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let next = file.with_extension("next");
    let write = || {
        let mut options = fs::File::options();
        let mut to = options.create(true).truncate(true).write(true).mode(0o600).open(&next)?;
        to.write_all(text.as_bytes())?;
        fs::rename(&next, file)
    };
    write().map_err(|error| Failure::Job(format!("cannot write {}: {error}", file.display())))
}

fn free_address() -> Result<SocketAddr, Failure> {
    let any = SocketAddr::new(ADMIN.ip(), 0);
    let listener = TcpListener::bind(ADMIN).or_else(|_| TcpListener::bind(any));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_err(|error| Failure::Job(format!("no port for the admin API: {error}")))
}

/// FNV-1a, which stays the same from release to release, unlike the standard library's.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
