//! A folder with a Compose file, and our verbs in it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::engine::Engine;
use super::program::{BINARY, Folder, free_port, signal};
use super::wait::until;

pub struct Site {
    pub folder: Folder,
    host: String,
    /// Where the file's published port is; `PORT` in the file.
    pub address: SocketAddr,
}

/// What a verb did.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Site {
    /// `file`: the Compose file, in which `PORT` stands for a free port.
    pub fn new(engine: &Engine, file: &str) -> Site {
        Self::in_folder(engine, Folder::new(), file)
    }

    pub fn in_folder(engine: &Engine, folder: Folder, file: &str) -> Site {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let site = Site { folder, host: format!("unix://{}", engine.socket()), address };
        site.write(file);
        site
    }

    pub fn write(&self, file: &str) {
        let text = file.replace("PORT", &self.address.port().to_string());
        fs::write(self.folder.join("compose.yaml"), text).unwrap();
    }

    /// On another engine, or the same one by another address.
    pub fn at_host(&mut self, host: &str) {
        self.host = host.to_owned();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .current_dir(&self.folder.0)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", self.folder.join("docker"))
            .env("EVENKEEL_STATE", self.state())
            .env("COMPOSE_PROJECT_NAME", "site")
            .stdin(Stdio::null());
        command
    }

    pub fn try_run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Said { ok: output.status.success(), out, err }
    }

    /// `evenkeel` with these arguments, which must succeed; what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let said = self.try_run(arguments);
        assert!(said.ok, "evenkeel {arguments:?}: {said:?}\nbalancer: {}", self.log());
        said.out
    }

    /// `evenkeel ps`: the containers of a service, by number.
    pub fn containers(&self, service: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(&self.run(&["ps", "--json"])).unwrap();
        let all = all["containers"].as_array().unwrap();
        all.iter().filter(|container| container["service"] == service).cloned().collect()
    }

    pub fn ids(&self, service: &str) -> Vec<String> {
        let id = |container: &Value| container["id"].as_str().unwrap().to_owned();
        let mut ids: Vec<String> = self.containers(service).iter().map(id).collect();
        ids.sort();
        ids
    }

    /// The same of a file that needs the variable TOKEN.
    pub fn ids_with(&self, service: &str, token: &str) -> Vec<String> {
        let output = self.command(&["ps", "--json"]).env("TOKEN", token).output().unwrap();
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let own = all["containers"].as_array().unwrap().iter().filter(|c| c["service"] == service);
        own.map(|container| container["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Where the balancer's admin API is.
    pub fn admin(&self) -> String {
        let all: Value = serde_json::from_str(&self.run(&["ps", "--json"])).unwrap();
        all["balancer"]["admin"].as_str().unwrap().to_owned()
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.join("state")
    }

    /// What the balancer logged.
    pub fn log(&self) -> String {
        let folders = fs::read_dir(self.state()).into_iter().flatten().flatten();
        folders.filter_map(|folder| fs::read_to_string(folder.path().join("log")).ok()).collect()
    }

    /// The processes of balancers, running or not.
    pub fn balancers(&self) -> Vec<u32> {
        let folders = fs::read_dir(self.state()).into_iter().flatten().flatten();
        let pid = |folder: fs::DirEntry| -> Option<u32> {
            let pid = fs::read_to_string(folder.path().join("pid")).ok()?;
            let pid = pid.trim().parse().ok()?;
            Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
        };
        folders.filter_map(pid).collect()
    }

    pub fn down(&self) {
        self.run(&["down", "-v", "--remove-orphans"]);
        until("the end of the balancer", || self.balancers().is_empty());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What a test that failed has left.
        for pid in self.balancers() {
            signal(pid, "KILL");
        }
    }
}
