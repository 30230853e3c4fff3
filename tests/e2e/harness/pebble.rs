//! Debian's `pebble`, the ACME server that Let's Encrypt tests its clients with, and the DNS server
//! that comes with it.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::peer::{Peer, find};
use super::pki::Pki;
use super::program::{Folder, free_port, signal};
use super::wait::until;

/// A CA, and where it finds the domains that it is asked for.
pub struct Pebble {
    binary: String,
    folder: Folder,
    pub address: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dns_control: SocketAddr,
    options: Options,
    server: Option<Peer>,
    _dns: Peer,
}

/// How the CA behaves.
#[derive(Clone, Copy)]
pub struct Options {
    /// Where it comes to see proofs: plain and over TLS.
    pub http: u16,
    pub tls: u16,
    /// How long its certificates are good, in seconds.
    pub life: u64,
    /// Of a hundred good nonces, so many are refused.
    pub bad_nonces: u32,
    /// It takes accounts only with one of its keys.
    pub binding: bool,
}

impl Options {
    pub fn new(http: SocketAddr, tls: SocketAddr) -> Options {
        let (http, tls) = (http.port(), tls.port());
        Options { http, tls, life: 90 * 86_400, bad_nonces: 0, binding: false }
    }
}

impl Pebble {
    /// `None` where the packages are missing, which is noted. Every name is at `address`.
    pub fn start(options: Options, address: IpAddr) -> Option<Pebble> {
        let pebble = Self::prepare(options, address)?;
        Some(pebble.started())
    }

    /// The same without the CA: only its DNS server runs.
    pub fn prepare(options: Options, address: IpAddr) -> Option<Pebble> {
        let (binary, challtestsrv) = (find("pebble")?, find("pebble-challtestsrv")?);
        let folder = Folder::new();
        Pki::new(&folder.0, "ca").issue("pebble", &["localhost", "127.0.0.1"]);
        let at = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (dns, dns_control) = (at(), at());
        let server = Peer::start(Command::new(challtestsrv).args([
            "-dns01",
            &dns.to_string(),
            "-management",
            &dns_control.to_string(),
            "-defaultIPv4",
            &address.to_string(),
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ]));
        let pebble = Pebble {
            binary,
            folder,
            address: at(),
            management: at(),
            dns,
            dns_control,
            options,
            server: None,
            _dns: server,
        };
        until("the DNS server", || std::net::TcpStream::connect(dns_control).is_ok());
        Some(pebble)
    }

    fn started(mut self) -> Pebble {
        self.restart();
        self
    }

    /// It forgets all that it knew, accounts and certificates.
    pub fn restart(&mut self) {
        self.stop();
        let Options { http, tls, life, bad_nonces, binding } = self.options;
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.address.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.folder.join("pebble.crt"),
            "privateKey": self.folder.join("pebble.key"),
            "httpPort": http,
            "tlsPort": tls,
            "externalAccountBindingRequired": binding,
            "externalAccountMACKeys": { "kid-1": EAB_KEY },
            "domainBlocklist": ["blocked.test"],
            "certificateValidityPeriod": life,
        }});
        fs::write(self.folder.join("pebble.json"), config.to_string()).unwrap();
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let server = Command::new(&self.binary)
            .arg("-config")
            .arg(self.folder.join("pebble.json"))
            .args(["-dnsserver", &self.dns.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", bad_nonces.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Peer(server));
        let address = self.address;
        until("pebble", || std::net::TcpStream::connect(address).is_ok());
    }

    pub fn stop(&mut self) {
        self.server = None;
    }

    /// `STOP`: it takes connections, and answers nothing until `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.server.as_ref().expect("it runs").0.id(), name);
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Whom the directory's own certificate leads to.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("pebble.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Orders that it was given.
    pub fn orders(&self) -> usize {
        self.log().matches("POST /order-plz").count()
    }

    pub fn accounts(&self) -> usize {
        self.log().matches("POST /sign-me-up").count()
    }

    /// From now on the name is there.
    pub fn point(&self, name: &str, address: &str) {
        // What is added stands beside what was there.
        for (verb, body) in [
            ("clear-a", format!("{{\"host\": \"{name}.\"}}")),
            ("add-a", format!("{{\"host\": \"{name}.\", \"addresses\": [\"{address}\"]}}")),
        ] {
            let url = format!("http://{}/{verb}", self.dns_control);
            let told = Command::new("curl").args(["-sS", "-f", "-d", &body, &url]).status();
            assert!(told.unwrap().success(), "{verb} {name}");
        }
    }

    /// Whom its certificates lead to, since it was last started, as a file.
    pub fn root(&self) -> PathBuf {
        let file = self.folder.join("root.pem");
        let url = format!("https://{}/roots/0", self.management);
        let output = Command::new("curl").args(["-sS", "-f", "-k", &url]).output().unwrap();
        assert!(output.status.success());
        fs::write(&file, output.stdout).unwrap();
        file
    }
}

/// The key of `kid-1`.
pub const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
