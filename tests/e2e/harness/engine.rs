//! A Docker engine or a Podman service of the test's own, with its own bridge, addresses and files,
//! so that nothing else on the machine notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::peer::{find, skip};
use super::program::{BINARY, Folder, signal};
use super::wait::until;

/// One at a time: each is a daemon with its own containers, on machines with two cores.
static ONE: Mutex<()> = Mutex::new(());

/// The image of this very program as `evenkeel echo` on port 5000.
pub const ECHO: &str = "evenkeel-echo";

/// The same with a health check of its own: well is who has a configuration `/ok/file`.
pub const ECHO_CHECKED: &str = "evenkeel-echo-checked";

pub struct Engine {
    pub folder: Folder,
    kind: Kind,
    bridge: String,
    /// The second and third number of its addresses.
    number: u32,
    child: Option<Child>,
    _one: MutexGuard<'static, ()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Docker,
    Podman,
}

impl Engine {
    /// `None` where there is none, or it may not be run; that is noted.
    pub fn start() -> Option<Engine> {
        Self::start_kind(Kind::Docker)
    }

    /// The same with Podman, spoken to by Docker's command.
    pub fn start_podman() -> Option<Engine> {
        Self::start_kind(Kind::Podman)
    }

    fn start_kind(kind: Kind) -> Option<Engine> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, daemon) = match kind {
            Kind::Docker => ("a Docker engine", "dockerd"),
            Kind::Podman => ("a Podman service", "podman"),
        };
        for program in [daemon, "docker", "ip", "iptables", "setpriv"] {
            find(program)?;
        }
        if !rustix::process::geteuid().is_root() {
            skip(what, "needs root");
            return None;
        }
        let number = (std::process::id() + NEXT.fetch_add(1, Relaxed)) % 250;
        let bridge = format!("ekbr{number}");
        let folder = Folder::new();
        let mut engine = Engine { folder, kind, bridge, number, child: None, _one: one };
        let _ = ip(&["link", "del", &engine.bridge]);
        if kind == Kind::Docker && !engine.make_bridge() {
            skip(what, "network bridges cannot be made here");
            return None;
        }
        engine.launch();
        if engine.child.is_none() {
            let log = fs::read_to_string(engine.folder.join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing").to_owned();
            skip(what, &format!("does not start here: {last}"));
            return None;
        }
        engine.import_echo();
        if kind == Kind::Podman
            && let Err(error) = engine.try_docker(&["run", "--rm", ECHO, "--help"])
        {
            skip(what, &format!("runs no container here: {}", error.trim()));
            return None;
        }
        Some(engine)
    }

    fn make_bridge(&self) -> bool {
        let address = format!("10.213.{}.1/24", self.number);
        ip(&["link", "add", &self.bridge, "type", "bridge"])
            && ip(&["addr", "add", &address, "dev", &self.bridge])
            && ip(&["link", "set", &self.bridge, "up"])
    }

    /// Another engine on this machine may have told the kernel to forward nothing but its own;
    /// then containers of ours could not speak to each other.
    fn set_forwarding(&self, action: &str) {
        let addresses = format!("10.214.{}.0/24", self.number);
        let rule = ["FORWARD", "-s", &addresses, "-d", &addresses, "-j", "ACCEPT"];
        let _ = system("iptables", &[&["-w", action], &rule[..]].concat());
    }

    pub fn socket(&self) -> String {
        self.folder.join("docker.sock").display().to_string()
    }

    fn launch(&mut self) {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let log = fs::File::options().create(true).append(true).open(path("log")).unwrap();
        let socket = format!("unix://{}", self.socket());
        let mut command = Command::new("setpriv");
        // If the test is killed, so is the engine.
        command.args(["--pdeathsig", "TERM"]);
        match self.kind {
            Kind::Docker => {
                self.set_forwarding("-I");
                let pool = format!("base=10.214.{}.0/24,size=28", self.number);
                command
                    .args(["dockerd", "--data-root", &path("data"), "--exec-root", &path("exec")])
                    .args(["--pidfile", &path("pid"), "-H", &socket])
                    .args(["--bridge", &self.bridge, "--default-address-pool", &pool])
                    .args(["--iptables=false", "--ip-forward=false", "--ip-masq=false"])
                    .args(["--live-restore", "--shutdown-timeout", "5"]);
            }
            Kind::Podman => {
                let settings = self.podman_settings();
                command
                    .args(["podman", "--root", &path("data"), "--runroot", &path("run")])
                    .args(["--tmpdir", &path("tmp"), "--storage-driver", "vfs"])
                    .args(["system", "service", "--time", "0", &socket])
                    .env("CONTAINERS_CONF", settings);
            }
        }
        let mut child = command
            .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ended = false;
        until("the Docker engine", || {
            ended = child.try_wait().unwrap().is_some();
            ended || self.try_docker(&["info"]).is_ok()
        });
        self.child = (!ended).then_some(child);
    }

    /// What Podman is to be, as far as it has no option for it: a file. Its own limits of open
    /// files are more than a process in a sandbox may set.
    fn podman_settings(&self) -> PathBuf {
        let file = self.folder.join("containers.conf");
        let networks = self.folder.join("networks");
        fs::create_dir_all(&networks).unwrap();
        let Self { bridge, number, .. } = self;
        let networks_path = networks.display();
        let text = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n\
             runtime = \"runc\"\n\
             [network]\nnetwork_backend = \"cni\"\nnetwork_config_dir = \"{networks_path}\"\n\
             default_network = \"{bridge}\"\n"
        );
        fs::write(&file, text).unwrap();
        // Without plug-ins that change the rules of the machine's firewall.
        let network = format!(
            r#"{{ "cniVersion": "0.4.0", "name": "{bridge}", "plugins": [ {{ "type": "bridge",
                "bridge": "{bridge}", "isGateway": true, "ipMasq": false, "ipam": {{
                "type": "host-local", "dataDir": "{networks_path}/leases",
                "routes": [ {{ "dst": "0.0.0.0/0" }} ],
                "ranges": [ [ {{ "subnet": "10.213.{number}.0/24" }} ] ] }} }} ] }}"#
        );
        fs::write(networks.join("87-default.conflist"), network).unwrap();
        file
    }

    /// Ends the daemon; its containers live on.
    pub fn stop_daemon(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            until("the end of the Docker engine", || child.try_wait().unwrap().is_some());
            if self.kind == Kind::Docker {
                self.set_forwarding("-D");
            }
        }
    }

    pub fn start_daemon(&mut self) {
        self.launch();
        assert!(self.child.is_some(), "the Docker engine did not start again");
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.client("docker").args(arguments).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The `docker` command; answers what it printed.
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    /// `docker-compose` in a folder that holds `compose.yaml`.
    pub fn compose(&self, folder: &Path, arguments: &[&str]) {
        let output = self
            .client("docker-compose")
            .args(["-f", "compose.yaml"])
            .args(arguments)
            .current_dir(folder)
            // A Python of ours that is first in PATH does not have its modules.
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker-compose {arguments:?}: {said}");
    }

    /// One of its clients, told where it is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket())).stdin(Stdio::null());
        command
    }

    /// A container of the echo image that calls itself `name`, with these labels; its id.
    pub fn run(&self, name: &str, labels: &[&str]) -> String {
        self.run_with(name, labels, &[])
    }

    /// The same with further options, the last of which may be another image.
    pub fn run_with(&self, name: &str, labels: &[&str], options: &[&str]) -> String {
        self.try_run_with(name, labels, options)
            .unwrap_or_else(|error| panic!("docker run {name} {options:?}: {error}"))
    }

    pub fn try_run_with(
        &self,
        name: &str,
        labels: &[&str],
        options: &[&str],
    ) -> Result<String, String> {
        let replica = format!("REPLICA={name}");
        let mut arguments = vec!["run", "-d", "--name", name, "-e", &replica];
        arguments.extend(labels.iter().flat_map(|label| ["-l", label]));
        arguments.extend(options);
        if !options.iter().any(|option| option.starts_with(ECHO)) {
            arguments.push(ECHO);
        }
        self.try_docker(&arguments)
    }

    fn import_echo(&self) {
        let root = self.folder.join("echo");
        copy_program(BINARY, &root, "/evenkeel");
        let changes =
            [r#"ENTRYPOINT ["/evenkeel","echo","--http","0.0.0.0:5000"]"#, "EXPOSE 5000/tcp"];
        self.import(&root, ECHO, &changes);
        // Podman's import knows no `HEALTHCHECK`.
        if self.kind == Kind::Docker {
            let check = r#"HEALTHCHECK --interval=3s --retries=1 CMD ["/evenkeel","check","-c","/ok/file"]"#;
            self.import(&root, ECHO_CHECKED, &[&changes[..], &[check]].concat());
        }
        fs::remove_dir_all(root).unwrap();
    }

    /// An image of the files below `root`.
    pub fn import(&self, root: &Path, name: &str, changes: &[&str]) {
        let mut tar = Command::new("tar")
            .args(["c", "-C"])
            .arg(root)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut import = self.client("docker");
        import.arg("import");
        for change in changes {
            import.args(["--change", change]);
        }
        let archive = tar.stdout.take().unwrap();
        let output = import.args(["-", name]).stdin(archive).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(tar.wait().unwrap().success());
    }
}

/// Copies a program below `root`, and the libraries that it needs to where it looks for them.
pub fn copy_program(program: &str, root: &Path, to: &str) {
    let copy = |from: &str, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(program, to);
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if word.starts_with('/') && Path::new(word).is_file() {
            copy(word, word);
        }
    }
}

/// The processes that watch this socket.
pub fn watchers(socket: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("__watcher") && line.contains(socket) {
            found.push(pid);
        }
    }
    found
}

fn ip(arguments: &[&str]) -> bool {
    system("ip", arguments)
}

fn system(program: &str, arguments: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    output.is_ok_and(|output| output.status.success())
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.child.is_some() {
            let all = self.try_docker(&["ps", "-aq"]).unwrap_or_default();
            for id in all.split_whitespace() {
                let _ = self.try_docker(&["rm", "-f", id]);
            }
            let _ = self.try_docker(&["network", "prune", "-f"]);
        }
        if std::thread::panicking()
            && let Some(mut child) = self.child.take()
        {
            // Not `until`, which panics.
            let _ = child.kill();
            let _ = child.wait();
            if self.kind == Kind::Docker {
                self.set_forwarding("-D");
            }
        } else {
            self.stop_daemon();
        }
        let _ = ip(&["link", "del", &self.bridge]);
        // What the engine left mounted would keep the folder from being removed.
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = self.folder.0.display().to_string();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if place.starts_with(&ours) {
                let _ = Command::new("umount").args(["-l", place]).output();
            }
        }
    }
}
