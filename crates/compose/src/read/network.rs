//! `networks` of the file.

use config::tree::Entry;
use serde_json::{Map, Value as Json, json};

use super::Context;
use super::keys::Keys;
use crate::project::Network;

/// What networks and volumes have in common.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) external: bool,
    /// For the engine, as it spells them.
    pub(super) options: Map<String, Json>,
}

/// `driver_options`: how the engine calls the options of a driver.
pub(super) fn named(keys: &Keys<'_>, entry: &Entry, project: &str, driver_options: &str) -> Named {
    let external = keys.bool("external").unwrap_or(false);
    let default = if external { entry.key.to_string() } else { format!("{project}_{}", entry.key) };
    let name = keys.text("name").unwrap_or(default);
    let mut options = Map::new();
    if let Some(driver) = keys.text("driver") {
        options.insert("Driver".into(), driver.into());
    }
    let given = keys.labels("driver_opts");
    if !given.is_empty() {
        options.insert(driver_options.into(), json!(given));
    }
    Named { name, external, options }
}

pub(super) fn network(entry: &Entry, project: &str, context: &Context<'_>) -> Network {
    let keys = Keys::open(context.report, format!("network `{}`", entry.key), &entry.value);
    let Named { name, external, mut options } = named(&keys, entry, project, "Options");
    for (key, there) in
        [("internal", "Internal"), ("attachable", "Attachable"), ("enable_ipv6", "EnableIPv6")]
    {
        if let Some(value) = keys.bool(key) {
            options.insert(there.into(), value.into());
        }
    }
    if let Some(ipam) = keys.section("ipam") {
        let mut there = Map::new();
        if let Some(driver) = ipam.text("driver") {
            there.insert("Driver".into(), driver.into());
        }
        let mut configs = Vec::new();
        for item in ipam.items("config") {
            let config = Keys::open(context.report, "`config` of `ipam`".into(), item);
            let mut one = Map::new();
            for (key, there) in
                [("subnet", "Subnet"), ("ip_range", "IPRange"), ("gateway", "Gateway")]
            {
                if let Some(text) = config.text(key) {
                    one.insert(there.into(), text.into());
                }
            }
            let addresses = config.labels("aux_addresses");
            if !addresses.is_empty() {
                one.insert("AuxiliaryAddresses".into(), json!(addresses));
            }
            config.finish(&[], &[]);
            configs.push(Json::Object(one));
        }
        if !configs.is_empty() {
            there.insert("Config".into(), configs.into());
        }
        ipam.finish(&["options"], &[]);
        options.insert("IPAM".into(), there.into());
    }
    let labels = keys.labels("labels");
    keys.finish(&["enable_ipv4"], &[]);
    Network { name, external, labels, options }
}
