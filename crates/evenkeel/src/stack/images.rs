//! The images of a project: built, pulled, pushed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use compose::context;
use compose::engine::{Body, EngineError, Messages, Update};
use compose::progress::Progress;
use compose::project::{Build, PullPolicy, Service};
use compose::registry::image_name;
use hyper::{Method, Request};
use serde_json::json;

use super::Stack;
use crate::client::encoded;
use crate::failure::Failure;

/// What `up` is to do about images that are there already.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fresh {
    pub(crate) build: bool,
    pub(crate) pull: bool,
}

impl Stack {
    /// Sees to it that each service has its image; their ids, by service.
    pub(crate) async fn images<'a>(
        &self,
        services: impl Iterator<Item = &'a Service>,
        fresh: Fresh,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut images = BTreeMap::new();
        for service in services {
            images.insert(service.name.clone(), self.image(service, fresh).await?);
        }
        Ok(images)
    }

    /// The names of the images of these services, or of all, that are `chosen`.
    pub(crate) fn image_names(
        &self,
        named: &[String],
        chosen: impl Fn(&Service) -> bool,
    ) -> Result<Vec<String>, Failure> {
        for name in named {
            self.service(name)?;
        }
        let all = self.project.services.values();
        let all = all.filter(|s| (named.is_empty() || named.contains(&s.name)) && chosen(s));
        let mut images: Vec<String> = all.filter_map(|service| service.image.clone()).collect();
        images.sort();
        images.dedup();
        Ok(images)
    }

    /// Builds what these services, or all, build, if it is missing or `again`.
    pub(crate) async fn build_all(&self, named: &[String], again: bool) -> Result<(), Failure> {
        let all = self.project.services.values();
        let built =
            all.filter(|s| (named.is_empty() || named.contains(&s.name)) && s.build.is_some());
        self.images(built, Fresh { build: again, pull: false }).await.map(drop)
    }

    async fn image(&self, service: &Service, fresh: Fresh) -> Result<String, Failure> {
        let name = service.image.as_deref().unwrap_or_default();
        let there = self.image_id(name).await?;
        let policy = service.pull_policy;
        match (&service.build, there) {
            (Some(build), there) => {
                let again = fresh.build || policy == PullPolicy::Build;
                match there {
                    Some(id) if !again => return Ok(id),
                    _ => self.build(build, name).await?,
                }
            }
            (None, Some(id)) if !fresh.pull && policy != PullPolicy::Always => return Ok(id),
            (None, None) if policy == PullPolicy::Never => {
                let message = format!("the image {name} is not there, and `pull_policy` is never");
                return Err(Failure::Job(message));
            }
            (None, _) => self.pull(name).await?,
        }
        let id = self.image_id(name).await?;
        id.ok_or_else(|| Failure::Job(format!("the engine has no image {name} after all")))
    }

    async fn image_id(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.engine.get(&format!("/images/{name}/json")).await {
            Ok(image) => Ok(image["Id"].as_str().map(str::to_owned)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn build(&self, build: &Build, name: &str) -> Result<(), Failure> {
        eprintln!("building {name}");
        let mut query = vec![
            ("t", name.to_owned()),
            ("dockerfile", context::dockerfile_name(build)),
            ("buildargs", json!(build.args).to_string()),
            ("rm", "1".into()),
        ];
        // None of our own, with which it would be another image than docker-compose builds.
        if !build.labels.is_empty() {
            query.push(("labels", json!(build.labels).to_string()));
        }
        query.extend(build.target.clone().map(|target| ("target", target)));
        query.extend(build.network.clone().map(|network| ("networkmode", network)));
        if build.no_cache {
            query.push(("nocache", "1".into()));
        }
        if build.pull {
            query.push(("pull", "1".into()));
        }
        if !build.cache_from.is_empty() {
            query.push(("cachefrom", json!(build.cache_from).to_string()));
        }
        let query: Vec<String> =
            query.into_iter().map(|(key, value)| format!("{key}={}", encoded(&value))).collect();
        let (body, writer) = Body::stream();
        let files = build.clone();
        let archive = tokio::task::spawn_blocking(move || context::archive(&files, writer));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/build?{}", query.join("&")))
            .header("Content-Type", "application/x-tar")
            .header("X-Registry-Config", self.logins.all())
            .body(body)
            .map_err(|error| Failure::Job(error.to_string()))?;
        let sent = self.engine.send(request).await;
        let failed =
            |why: &dyn std::fmt::Display| Failure::Job(format!("cannot build {name}: {why}"));
        // What is wrong with the files goes before what the engine thinks of half an archive.
        match archive.await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(failed(&error));
            }
            Ok(_) => {}
            Err(error) => return Err(failed(&error)),
        }
        self.follow(sent.map_err(|error| failed(&error))?, &format!("cannot build {name}")).await
    }

    pub(crate) async fn pull(&self, name: &str) -> Result<(), Failure> {
        eprintln!("pulling {name}");
        let image = image_name(name);
        let path = format!(
            "/images/create?fromImage={}&tag={}",
            encoded(&image.repository),
            encoded(&image.tag)
        );
        self.transfer(&path, name, image.registry.as_deref(), "cannot pull").await
    }

    pub(crate) async fn push(&self, name: &str) -> Result<(), Failure> {
        eprintln!("pushing {name}");
        let image = image_name(name);
        let path = format!("/images/{}/push?tag={}", image.repository, encoded(&image.tag));
        self.transfer(&path, name, image.registry.as_deref(), "cannot push").await
    }

    async fn transfer(
        &self,
        path: &str,
        name: &str,
        registry: Option<&str>,
        what: &str,
    ) -> Result<(), Failure> {
        let what = format!("{what} {name}");
        let login =
            self.logins.header(registry).map_err(|e| Failure::Job(format!("{what}: {e}")))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("X-Registry-Auth", login)
            .body(Body::empty())
            .map_err(|error| Failure::Job(error.to_string()))?;
        let sent = self.engine.send(request).await;
        let sent = sent.map_err(|error| Failure::Job(format!("{what}: {error}")))?;
        self.follow(sent, &what).await
    }

    /// Shows what the engine says until it has ended.
    async fn follow(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
        what: &str,
    ) -> Result<(), Failure> {
        let mut messages = Messages::new(response);
        let mut progress = Progress::new(std::io::stderr().is_terminal());
        let broken = |error: EngineError| Failure::Job(format!("{what}: {error}"));
        while let Some(update) = messages.next().await.map_err(broken)? {
            if let Some(error) = &update.error {
                return Err(Failure::Job(format!("{what}: {error}")));
            }
            let text = progress.take(Update { image: None, ..update });
            // Nobody who watches is no reason to stop.
            let _ = anstream::stderr().write_all(text.as_bytes());
        }
        Ok(())
    }
}
