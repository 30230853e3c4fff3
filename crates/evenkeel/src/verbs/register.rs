use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::spec::{ClientTlsSpec, SecretSpec};
use registrar::client::{Authority, Client};
use registry::{Check, Instance, Registration};
use tls::{Dialler, read_secret};

use super::Verb;
use crate::failure::Failure;
use crate::log::LogLevel;
use crate::register::{self, Plan};

/// Run a command as an instance of a service: register it once it is healthy, and drain it before
/// it stops
///
/// Without a command, something that already runs on the port is registered for as long as this
/// runs. The command has PORT in its environment.
#[derive(clap::Args)]
pub(super) struct Register {
    /// The service that it is an instance of
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Where it listens
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// Its address, as others reach it [default: the one from which the registry is asked]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Its id; whoever registers it again takes its place [default: made up]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Its share of the traffic, relative to the others
    #[arg(long, value_name = "0-65535", default_value_t = 1)]
    weight: u16,
    /// Its failover level
    #[arg(long, value_name = "0-255", default_value_t = 0)]
    priority: u8,
    /// Where it stands
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What else is to be known of it; may be repeated
    #[arg(long = "meta", value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Where the registry is, `http://` or, where something in front of it speaks TLS, `https://`;
    /// several are tried in turn
    #[arg(
        long,
        value_name = "URL",
        env = "EVENKEEL_REGISTRY",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:9910"
    )]
    registry: Vec<String>,
    /// The token of the service
    #[arg(long, value_name = "TOKEN", env = "EVENKEEL_REGISTRY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds it
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// PEM: the certificates of registries at `https://` lead to one of these, and to no other
    /// [default: what this system trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How it is known to work, before it is registered and at each heartbeat: `tcp`, or `http:`
    /// and a path
    #[arg(long, value_name = "tcp|http:PATH", default_value = "tcp")]
    check: String,
    /// Without a heartbeat for so long it leaves; three are sent in it
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = config::parse_duration)]
    ttl: Duration,
    /// How long it may take until it works for the first time
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = config::parse_duration)]
    start_within: Duration,
    /// How long its connections may take to end once it has deregistered
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = config::parse_duration)]
    drain: Duration,
    /// How long the command may take to end after SIGTERM, before it is killed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = config::parse_duration)]
    grace: Duration,
    /// What to log on standard error
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    log: LogLevel,
    /// What to run
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Verb for Register {
    const NAME: &'static str = "register";

    fn run(self) -> Result<(), Failure> {
        crate::log::start(self.log);
        let plan = self.plan().map_err(Failure::Usage)?;
        let code = register::run(plan)?;
        crate::log::flush();
        match code {
            0 => Ok(()),
            // The command's own status is the answer.
            code => std::process::exit(code),
        }
    }
}

impl Register {
    fn plan(self) -> Result<Plan, String> {
        let token = match (self.token, self.token_file) {
            (Some(token), _) => Some(read_secret(&SecretSpec::Text(token), ".".as_ref())?),
            (None, Some(file)) => Some(read_secret(&SecretSpec::File(file), ".".as_ref())?),
            (None, None) => None,
        };
        if self.ca.is_some() && !self.registry.iter().any(|url| url.starts_with("https://")) {
            return Err("--ca is for a --registry at https://, and none is".into());
        }
        let tls = Arc::new(Dialler::new(ClientTlsSpec { ca: self.ca, ..ClientTlsSpec::default() }));
        let client = |url: &String| {
            let client = Client::new(Authority::parse(url, 9910)?).with_tls(&tls)?;
            client.with_token(token.as_deref())
        };
        let registries = self.registry.iter().map(client).collect::<Result<Vec<_>, String>>()?;
        let check = match self.check.split_once(':') {
            None if self.check == "tcp" => Check::Tcp,
            Some(("http", path)) => Check::Http(path.to_owned()),
            _ => return Err(format!("--check is tcp, or http:/healthz, not {:?}", self.check)),
        };
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("--meta is KEY=VALUE, not {text:?}")),
        };
        let metadata = self.metadata.iter().map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
        let registration = Registration {
            id: self.id,
            address: self.address,
            weight: self.weight,
            priority: self.priority,
            zone: self.zone,
            metadata,
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            ..Registration::on(self.port)
        };
        // So that what is wrong is told now, and not once the command runs.
        let local = IpAddr::from([127, 0, 0, 1]);
        let mut checked = Instance::new(&self.service, registration.clone(), "checked", local)
            .map_err(|refusal| refusal.to_string())?;
        checked.check = Some(check.clone());
        checked.check().map_err(|refusal| refusal.to_string())?;
        Ok(Plan {
            service: self.service,
            registration,
            checked,
            registries,
            start_within: self.start_within,
            drain: self.drain,
            grace: self.grace,
            command: self.command,
        })
    }
}
