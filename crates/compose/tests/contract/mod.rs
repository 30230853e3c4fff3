//! What must hold for any text that is given as a Compose file. The fuzzer and the tests use the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use compose::balancer::{Settings, configuration};
use compose::plan::{Action, There, Wanted, concerned, plan};
use compose::project::Project;
use compose::read::{Checked, Input, read};
use compose::{hash, request};
use config::Source;

pub(crate) fn compose_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match read_as("/project/compose.yaml", &text) {
        Ok(Checked { project, .. }) => {
            consistent(&project);
            put_in_force(&project);
        }
        Err(defects) => {
            assert!(defects.errors() > 0);
            for defect in defects.iter() {
                let lines = text.split('\n').count().max(1);
                assert!((1..=lines).contains(&defect.line) && defect.column >= 1, "{defect}");
            }
        }
    }
}

fn read_as(path: &str, text: &str) -> Result<Checked, config::defect::Defects> {
    let environment = [("TAG", "1"), ("EMPTY", ""), ("HOME", "/root")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    read(&Input {
        source: Source { name: path, text },
        path: path.into(),
        further: Vec::new(),
        project: None,
        environment: BTreeMap::from(environment),
        profiles: BTreeSet::from(["dev".to_owned()]),
        named: BTreeSet::new(),
        read_file: &|path: &Path| match path.to_str() {
            Some("/project/e.env") => Ok("A=1\nB=${TAG}\n".into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

/// What a service names is there, and the order holds each service once, after what it needs.
fn consistent(project: &Project) {
    assert!(!project.name.is_empty());
    let ordered: BTreeSet<&String> = project.order.iter().collect();
    assert_eq!(ordered.len(), project.order.len());
    assert!(ordered.into_iter().eq(project.services.keys()));
    let place = |name: &String| project.order.iter().position(|other| other == name);
    for (name, service) in &project.services {
        assert_eq!(&service.name, name);
        assert!(service.replicas <= 1_000);
        assert!(service.image.as_ref().is_some_and(|image| !image.is_empty()));
        assert!(service.networks.keys().all(|network| project.networks.contains_key(network)));
        for needed in service.depends_on.keys() {
            assert!(place(needed) < place(name), "{needed} before {name}");
        }
    }
}

/// All that is made of a project: the hash, the plan, the engine's requests, the balancer's text.
fn put_in_force(project: &Project) {
    let hashes = project.services.values().map(|service| {
        let hash = hash::config_hash(project, service, None);
        assert_eq!(hash, hash::config_hash(project, service, None));
        (service.name.clone(), hash)
    });
    let there = There { hashes: hashes.collect(), ..There::default() };
    let services = concerned(project, &BTreeSet::new()).unwrap();
    assert_eq!(services.len(), project.services.len());
    let plan = plan(project, &services, &Wanted::default(), &there);
    let mut made: BTreeMap<&String, usize> = BTreeMap::new();
    for action in &plan.actions {
        match action {
            Action::Create { service, number } => {
                *made.entry(service).or_default() += 1;
                if *number == 1 {
                    let hash = &there.hashes[service];
                    let service = &project.services[service];
                    let new = request::container(project, service, *number, "image", hash);
                    assert!(new.body.is_object() && !new.name.is_empty());
                    let _ = request::files(service);
                }
            }
            Action::CreateNetwork(key) => assert!(project.networks.contains_key(key)),
            Action::CreateVolume(key) => assert!(project.volumes.contains_key(key)),
            Action::Await { service, .. } => assert!(project.services.contains_key(service)),
            other => panic!("nothing is there: {other:?}"),
        }
    }
    for (name, service) in &project.services {
        assert_eq!(made.get(name).copied().unwrap_or(0), service.replicas);
    }
    let admin = ([127, 0, 0, 1], 9900).into();
    let settings = Settings { admin, socket: Path::new("/run/docker.sock"), held: &[] };
    let _ = configuration(project, &settings);
}
