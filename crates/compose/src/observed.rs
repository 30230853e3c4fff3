//! What the engine has, as far as it belongs to the project. Pure: its answers in, values out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::labels;

/// One container of the project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub service: String,
    pub number: u32,
    /// `running`, `exited`, `created`, `paused`, `restarting`, `dead`, `removing`.
    pub state: String,
    /// `Up 3 minutes (healthy)`
    pub status: String,
    pub hash: String,
    pub image: String,
    pub image_id: String,
    /// Of this machine, published by the engine.
    pub published: Vec<(u16, String)>,
}

impl Observed {
    pub fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "restarting" | "paused")
    }

    /// As the balancer calls its endpoint.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// The containers in an answer to `GET /containers/json`, those of `run` left out; by service and
/// number.
pub fn containers(list: &Value) -> Vec<Observed> {
    let mut found: Vec<Observed> =
        list.as_array().into_iter().flatten().filter_map(container).collect();
    found.sort_by(|a, b| (&a.service, a.number, &a.id).cmp(&(&b.service, b.number, &b.id)));
    found
}

fn container(value: &Value) -> Option<Observed> {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let labels = &value["Labels"];
    let label = |key: &str| labels[key].as_str();
    if label(labels::ONE_OFF).is_some_and(|one_off| one_off.eq_ignore_ascii_case("true")) {
        return None;
    }
    let ports = value["Ports"].as_array().into_iter().flatten();
    Some(Observed {
        id: text("Id"),
        name: value["Names"][0].as_str().unwrap_or_default().trim_start_matches('/').to_owned(),
        service: label(labels::SERVICE)?.to_owned(),
        number: label(labels::NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0),
        state: text("State"),
        status: text("Status"),
        hash: label(labels::CONFIG_HASH).unwrap_or_default().to_owned(),
        image: text("Image"),
        image_id: text("ImageID"),
        published: ports
            .filter_map(|port| {
                let number = u16::try_from(port["PublicPort"].as_u64()?).ok()?;
                Some((number, port["Type"].as_str().unwrap_or("tcp").to_owned()))
            })
            .collect(),
    })
}

/// How a container is, in an answer to `GET /containers/ID/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub running: bool,
    pub restarting: bool,
    pub exit_code: i64,
    /// `starting`, `healthy`, `unhealthy`; `None`: it has no check.
    pub health: Option<String>,
    /// What the last check printed.
    pub said: String,
}

pub fn condition(inspection: &Value) -> Condition {
    let state = &inspection["State"];
    let health = state["Health"]["Status"].as_str().filter(|status| *status != "none");
    let log = state["Health"]["Log"].as_array().and_then(|log| log.last());
    Condition {
        running: state["Running"].as_bool().unwrap_or(false),
        restarting: state["Restarting"].as_bool().unwrap_or(false),
        exit_code: state["ExitCode"].as_i64().unwrap_or(0),
        health: health.map(str::to_owned),
        said: log.and_then(|log| log["Output"].as_str()).unwrap_or_default().trim().to_owned(),
    }
}

/// Names of what the engine has, with its labels.
pub type Named = BTreeMap<String, BTreeMap<String, String>>;

/// In an answer to `GET /networks`, or in `Volumes` of one to `GET /volumes`.
pub fn named(list: &Value) -> Named {
    let one = |value: &Value| {
        let labels = value["Labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
        Some((value["Name"].as_str()?.to_owned(), labels.collect()))
    };
    list.as_array().into_iter().flatten().filter_map(one).collect()
}
