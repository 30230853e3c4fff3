use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use config::{parse_bind, parse_endpoint_address};

use super::Verb;
use crate::control::{self, Origin, Reader};
use crate::failure::Failure;
use crate::log::{self, LogLevel};

/// Balance one address over others, without a configuration file
#[derive(clap::Args)]
#[command(after_help = "Example: evenkeel proxy --listen :8080 --to :5001 --to :5002")]
pub(super) struct Proxy {
    /// Where to listen: `:8080` (every address), `127.0.0.1:8080`, `[::1]:8080`
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bind)]
    listen: SocketAddr,
    /// Where to send, as often as there are endpoints: `:5001` (this machine), `10.0.0.7:80`
    #[arg(long, value_name = "ADDRESS", required = true, value_parser = parse_endpoint_address)]
    to: Vec<SocketAddr>,
    #[arg(long, value_name = "PROTOCOL", default_value = "http",
          value_parser = ["http", "tcp", "udp"], help = "What is spoken")]
    protocol: String,
    #[arg(long, value_name = "POLICY", value_parser = policy_names(),
          help = "How to choose; `evenkeel policies` explains them")]
    policy: Option<String>,
    /// How to check endpoints: a path to ask for over HTTP, `tcp` (the default; `off` for UDP),
    /// or `off`
    #[arg(long, value_name = "/PATH|tcp|off", value_parser = parse_health)]
    health: Option<String>,
    /// Where the admin API listens, for `evenkeel status`; without this there is none
    #[arg(long, value_name = "ADDRESS", value_parser = parse_bind)]
    admin: Option<SocketAddr>,
    /// The token that the admin API demands
    #[arg(long, value_name = "TOKEN", env = "EVENKEEL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What to log on standard error
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    log: LogLevel,
}

impl Verb for Proxy {
    const NAME: &'static str = "proxy";

    fn run(self) -> Result<(), Failure> {
        log::start(self.log);
        let text = self.configuration().into();
        let name = "command line".to_owned();
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let mut reader = Reader::new(directory.clone());
        let checked = reader.read(&name, &text).map_err(|defects| {
            let messages: Vec<&str> = defects.iter().map(|d| &*d.message).collect();
            Failure::Usage(messages.join("; "))
        })?;
        control::run(Origin { name, file: None, directory, text, spec: checked.spec, reader })
    }
}

impl Proxy {
    /// The configuration file that says the same; `GET /v1/config` shows it.
    fn configuration(&self) -> String {
        let mut text = String::new();
        if let Some(admin) = self.admin {
            let token = self.token.as_ref().map(|token| format!(", token: {}", quoted(token)));
            let bind = quoted(&admin.to_string());
            text += &format!("admin: {{ bind: {bind}{} }}\n", token.unwrap_or_default());
        }
        let (listen, protocol) = (quoted(&self.listen.to_string()), &self.protocol);
        text += &format!(
            "listeners:\n  proxy: {{ bind: {listen}, protocol: {protocol}, service: proxy }}\n"
        );
        let endpoints: Vec<String> = self.to.iter().map(|to| quoted(&to.to_string())).collect();
        text += &format!("services:\n  proxy:\n    endpoints: [{}]\n", endpoints.join(", "));
        if let Some(policy) = &self.policy {
            text += &format!("    policy: {policy}\n");
        }
        let health = match (self.health.as_deref(), protocol.as_str()) {
            // What answers UDP seldom listens on TCP as well.
            (None, "udp") => Some("off"),
            (health, _) => health,
        };
        match health {
            None => {}
            Some(path) if path.starts_with('/') => {
                text += &format!("    health: {{ http: {} }}\n", quoted(path));
            }
            Some("off") => text += "    health: off\n",
            Some(kind) => text += &format!("    health: {kind}\n"),
        }
        text
    }
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn policy_names() -> PossibleValuesParser {
    PossibleValuesParser::new(balance::infos().iter().map(|policy| policy.name))
}

fn parse_health(text: &str) -> Result<String, String> {
    match text {
        "tcp" | "off" => Ok(text.to_owned()),
        path if path.starts_with('/') => Ok(path.to_owned()),
        _ => Err("write a path that starts with /, or tcp, or off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, error::ErrorKind};
    use model::spec::{EndpointSource, HealthKind, Protocol, Spec};

    use config::Source;

    use super::*;
    use crate::control::vocabulary;

    fn parse(arguments: &str) -> Result<Proxy, clap::Error> {
        let command = <Proxy as clap::Args>::augment_args(clap::Command::new("proxy"));
        let words = std::iter::once("proxy").chain(arguments.split(' '));
        Proxy::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    fn spec(arguments: &str) -> Spec {
        let text = parse(arguments).unwrap().configuration();
        let source = Source { name: "command line", text: &text };
        config::parse(&source, &vocabulary()).unwrap_or_else(|d| panic!("{d}\n{text}")).spec
    }

    #[test]
    fn arguments_become_a_configuration() {
        let spec = spec(
            "--listen :8080 --to :5001 --to [::1]:5002 --policy least_request --health /a\"b \
             --admin :9900 --token s3cret",
        );
        let listener = &spec.listeners["proxy"];
        assert_eq!(listener.bind, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(listener.protocol, Protocol::Http);
        let service = &spec.services["proxy"];
        let EndpointSource::Static(endpoints) = &service.source else { panic!() };
        let addresses: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:5001", "[::1]:5002"]);
        assert_eq!(service.policy.name, "least_request");
        assert!(matches!(&service.health.kind, HealthKind::Http { path, .. } if path == "/a\"b"));
        assert_eq!(spec.admin.unwrap().token.as_deref(), Some("s3cret"));
    }

    #[test]
    fn udp_is_not_checked_over_tcp() {
        let udp = spec("--listen :53 --to 10.0.0.1:53 --protocol udp");
        assert_eq!(udp.services["proxy"].health.kind, HealthKind::Off);
        let tcp = spec("--listen :53 --to 10.0.0.1:53 --protocol tcp --health tcp");
        assert_eq!(tcp.services["proxy"].health.kind, HealthKind::Tcp);
        assert_eq!(tcp.listeners["proxy"].protocol, Protocol::Tcp);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for (arguments, kind) in [
            ("--listen :8080", ErrorKind::MissingRequiredArgument),
            ("--to :8080", ErrorKind::MissingRequiredArgument),
            ("--listen x --to :1", ErrorKind::ValueValidation),
            ("--listen :8080 --to :0", ErrorKind::ValueValidation),
            ("--listen :8080 --to :1 --policy fair", ErrorKind::InvalidValue),
            ("--listen :8080 --to :1 --protocol quic", ErrorKind::InvalidValue),
            ("--listen :8080 --to :1 --health x", ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(arguments).err().map(|e| e.kind()), Some(kind), "{arguments}");
        }
    }
}
