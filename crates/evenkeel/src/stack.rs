//! A Compose project on an engine, and the balancer in front of it: what the verbs `up`, `scale`,
//! `deploy`, `stop` and `down` have in common.
//!
//! The balancer is a process of its own, `evenkeel run` with a configuration that is made from the
//! Compose file: it goes on when the verb has ended, and it never has the engine's socket. The verb
//! has it, for as long as it runs.

mod act;
mod arguments;
mod autoscale;
mod balancer;
mod deployment;
mod drain;
mod given;
mod images;
mod journal;
mod turn;
mod wake;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Weak;

use compose::engine::{Address, EngineError};
use compose::observed::{self, Observed};
use compose::project::{Project, Service};
use compose::registry::Logins;
use compose::{Engine, labels};
use serde_json::{Value, json};

pub(crate) use act::UpOptions;
pub(crate) use arguments::ComposeFile;
pub(crate) use autoscale::line;
pub(crate) use balancer::Balancer;
pub(crate) use deployment::Deployment;
pub(crate) use turn::Turn;

use crate::client::encoded;
use crate::failure::Failure;

/// A project, the engine that it is on, and its balancer.
pub(crate) struct Stack {
    pub(crate) project: Project,
    pub(crate) engine: Engine,
    pub(crate) balancer: Balancer,
    logins: Logins,
    /// Ours, while we have it.
    turn: RefCell<Weak<Turn>>,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::Job(error.to_string())
    }
}

impl Stack {
    /// The project's containers, those of `docker-compose run` left out.
    pub(crate) async fn containers(&self) -> Result<Vec<Observed>, Failure> {
        let filters = self.filters();
        let list = self.engine.get(&format!("/containers/json?all=true&filters={filters}")).await?;
        Ok(observed::containers(&list))
    }

    /// Networks, or volumes, of the whole engine.
    async fn networks(&self) -> Result<observed::Named, Failure> {
        Ok(observed::named(&self.engine.get("/networks").await?))
    }

    async fn volumes(&self) -> Result<observed::Named, Failure> {
        Ok(observed::named(&self.engine.get("/volumes").await?["Volumes"]))
    }

    /// Of the API: what has the project's label.
    fn filters(&self) -> String {
        let label = format!("{}={}", labels::PROJECT, self.project.name);
        encoded(&json!({ "label": [label] }).to_string())
    }

    pub(crate) fn service(&self, name: &str) -> Result<&Service, Failure> {
        self.project.services.get(name).ok_or_else(|| {
            let known = self.project.services.keys().map(String::as_str);
            let help = config::suggest::help(name, known, "services");
            Failure::Usage(format!("there is no service {name}; {help}"))
        })
    }

    /// Whether the balancer can reach the containers: those of an engine elsewhere it cannot.
    fn is_here(engine: &Engine) -> bool {
        matches!(engine.address(), Address::Unix(_))
    }

    pub(crate) async fn inspect(&self, id: &str) -> Result<Value, EngineError> {
        self.engine.get(&format!("/containers/{id}/json")).await
    }

    /// The hash of each service's configuration, with these images.
    fn hashes<'a>(
        &self,
        services: impl Iterator<Item = &'a Service>,
        images: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let one = |service: &Service| {
            let image = images.get(&service.name).map(String::as_str);
            let hash = compose::hash::config_hash(&self.project, service, image);
            (service.name.clone(), hash)
        };
        services.map(one).collect()
    }
}

/// Runs a verb's work on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Job(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
