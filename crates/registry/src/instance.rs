//! What an instance says of itself, as it is written in JSON, and what must hold of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The shortest time after which a silent instance may leave. Below it an ordinary pause of a
/// busy machine would look like death.
pub const TTL_MIN: Duration = Duration::from_millis(500);
/// The longest: a forgotten instance is gone within a day.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Three heartbeats of the 5 s that most registries are used with may go missing.
const TTL_DEFAULT: Duration = Duration::from_secs(15);
/// Of a service's name and an instance's id, in bytes: they appear in paths, metrics and keys.
pub const NAME_BYTES_MAX: usize = 100;
/// Of a zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 100;
/// Of a key of the metadata, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 64;
/// Of a value of the metadata, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 512;
/// Of the path of a check, in bytes.
const CHECK_PATH_BYTES_MAX: usize = 256;

/// What is sent to register: an instance without what its place in the API says already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Default: one is made up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Default: the address that the registration came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    pub port: u16,
    /// 0 to 65,535; default 1.
    #[serde(default = "one")]
    pub weight: u16,
    /// The failover level; default 0.
    #[serde(default)]
    pub priority: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metadata: BTreeMap<String, String>,
    /// Without a heartbeat for so long, in milliseconds, the instance leaves; default 15,000.
    #[serde(default = "ttl_ms")]
    pub ttl_ms: u64,
    /// The registry asks the instance itself, and each good answer is a heartbeat.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<Check>,
}

fn one() -> u16 {
    1
}

fn ttl_ms() -> u64 {
    TTL_DEFAULT.as_millis() as u64 // 15,000
}

impl Registration {
    /// All but the port has its default.
    pub fn on(port: u16) -> Self {
        Self {
            id: None,
            address: None,
            port,
            weight: one(),
            priority: 0,
            zone: None,
            metadata: BTreeMap::new(),
            ttl_ms: ttl_ms(),
            check: None,
        }
    }
}

/// One running copy of a service, as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: String,
    pub service: String,
    pub address: IpAddr,
    pub port: u16,
    pub weight: u16,
    #[serde(default)]
    pub priority: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub metadata: BTreeMap<String, String>,
    /// Without a heartbeat for so long it leaves.
    pub ttl_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<Check>,
}

/// How the registry asks an instance whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// That its port takes a connection.
    Tcp,
    /// That `GET` of this path answers with a status from 200 to 399.
    Http(String),
}

impl Instance {
    /// `id` and `address` hold where the registration has none.
    pub fn new(
        service: &str,
        registration: Registration,
        id: &str,
        address: IpAddr,
    ) -> Result<Self, Refusal> {
        let instance = Self {
            id: registration.id.unwrap_or_else(|| id.to_owned()),
            service: service.to_owned(),
            // ::ffff:10.0.0.1 is where a dual-stack socket sees 10.0.0.1.
            address: registration.address.unwrap_or(address).to_canonical(),
            port: registration.port,
            weight: registration.weight,
            priority: registration.priority,
            zone: registration.zone,
            metadata: registration.metadata,
            ttl_ms: registration.ttl_ms,
            check: registration.check,
        };
        instance.check()?;
        Ok(instance)
    }

    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// How often it should be heard of: twice may go missing.
    pub fn heartbeat(&self) -> Duration {
        self.ttl() / 3
    }

    /// What holds of every instance, wherever it came from.
    pub fn check(&self) -> Result<(), Refusal> {
        let invalid = |field: &'static str, help: String| Err(Refusal::Invalid { field, help });
        let named = format!(
            "up to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, the first a letter or digit"
        );
        if !is_service_name(&self.service) {
            return invalid("service", named);
        }
        if !is_id(&self.id) {
            return invalid("id", format!("{named}; `:` may be in it, too"));
        }
        if self.address.is_unspecified() || self.address.is_multicast() {
            return invalid("address", "an address that can be connected to".into());
        }
        if self.port == 0 {
            return invalid("port", "1 to 65535".into());
        }
        let (least, most) = (TTL_MIN.as_millis() as u64, TTL_MAX.as_millis() as u64);
        if !(least..=most).contains(&self.ttl_ms) {
            return invalid("ttl_ms", format!("{least} to {most}"));
        }
        if let Some(zone) = &self.zone
            && !(1..=ZONE_BYTES_MAX).contains(&zone.len())
        {
            return invalid("zone", format!("1 to {ZONE_BYTES_MAX} bytes"));
        }
        if let Some(Check::Http(path)) = &self.check
            && !(path.starts_with('/')
                && path.len() <= CHECK_PATH_BYTES_MAX
                && path.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return invalid(
                "check.http",
                format!("a path that begins with `/`, up to {CHECK_PATH_BYTES_MAX} bytes"),
            );
        }
        for (key, value) in &self.metadata {
            if !(1..=METADATA_KEY_BYTES_MAX).contains(&key.len())
                || value.len() > METADATA_VALUE_BYTES_MAX
            {
                return invalid(
                    "metadata",
                    format!(
                        "keys of 1 to {METADATA_KEY_BYTES_MAX} bytes, values of up to \
                         {METADATA_VALUE_BYTES_MAX}"
                    ),
                );
            }
        }
        Ok(())
    }
}

/// As names of services in a configuration: letters, digits, `-`, `_`, `.`.
pub fn is_service_name(name: &str) -> bool {
    is_name(name, b"-_.")
}

/// As a name of a service, and `:`, so that `host:port` is one.
pub fn is_id(id: &str) -> bool {
    is_name(id, b"-_.:")
}

fn is_name(name: &str, beside: &[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || beside.contains(&b))
}

/// Why a registration is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field does not hold what it must; what it may hold.
    Invalid { field: &'static str, help: String },
    /// A limit is reached: its name in the configuration, and its value.
    Limit { name: &'static str, max: usize },
    /// There is no such instance: it never was, it left, or this registry was emptied.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Invalid { field, help } => write!(f, "`{field}` must be {help}"),
            Refusal::Limit { name, max } => {
                write!(f, "the registry is full: `{name}` is {max}")
            }
            Refusal::Unknown => f.write_str("there is no such instance; register it again"),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(change: impl FnOnce(&mut Registration)) -> Result<Instance, Refusal> {
        let mut registration = Registration::on(5000);
        change(&mut registration);
        Instance::new("web", registration, "web-1", [10, 0, 0, 1].into())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let read: Registration = serde_json::from_str(r#"{"port": 5000}"#).unwrap();
        assert_eq!(read, Registration::on(5000));
        let made = instance(|_| {}).unwrap();
        assert_eq!((made.weight, made.ttl_ms, &*made.id), (1, 15_000, "web-1"));
        assert_eq!(made.heartbeat(), Duration::from_secs(5));
        let mapped = Instance::new("web", read, "x", "::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(mapped.socket_address(), "10.0.0.1:5000".parse().unwrap());
    }

    #[test]
    fn what_does_not_hold_is_named() {
        let check = |change: &dyn Fn(&mut Registration), expected: &str| {
            let refusal = instance(change).unwrap_err();
            let Refusal::Invalid { field, .. } = refusal else { panic!("{refusal}") };
            assert_eq!(field, expected);
        };
        check(&|r| r.port = 0, "port");
        check(&|r| r.id = Some(String::new()), "id");
        check(&|r| r.id = Some("-a".into()), "id");
        check(&|r| r.id = Some("a/b".into()), "id");
        check(&|r| r.id = Some("a".repeat(NAME_BYTES_MAX + 1)), "id");
        check(&|r| r.address = Some([0, 0, 0, 0].into()), "address");
        check(&|r| r.address = Some([224, 0, 0, 1].into()), "address");
        check(&|r| r.ttl_ms = 0, "ttl_ms");
        check(&|r| r.ttl_ms = u64::MAX, "ttl_ms");
        check(&|r| r.zone = Some(String::new()), "zone");
        check(&|r| r.check = Some(Check::Http("healthz".into())), "check.http");
        check(&|r| r.check = Some(Check::Http("/a b".into())), "check.http");
        check(&|r| drop(r.metadata.insert(String::new(), String::new())), "metadata");
        check(
            &|r| drop(r.metadata.insert("a".into(), "b".repeat(METADATA_VALUE_BYTES_MAX + 1))),
            "metadata",
        );
        assert!(instance(|r| r.id = Some("10.0.0.1:5000".into())).is_ok());
    }

    #[test]
    fn what_is_unknown_in_a_registration_is_refused() {
        for text in [r#"{"port":1,"wieght":2}"#, r#"{"port":1,"check":{"udp":1}}"#, "{}", "[]"] {
            assert!(serde_json::from_str::<Registration>(text).is_err(), "{text}");
        }
        let checked = r#"{"port":1,"check":{"http":"/healthz"}}"#;
        let read: Registration = serde_json::from_str(checked).unwrap();
        assert_eq!(read.check, Some(Check::Http("/healthz".into())));
    }
}
