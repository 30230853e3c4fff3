//! docker-compose and our verbs on the same project: each takes over what the other has made.

use std::collections::BTreeSet;

use super::harness::engine::Engine;
use super::harness::peer::find;
use super::harness::site::Site;
use super::harness::{Client, LOAD_SECONDS, Wrk, until};

/// Without a published port, docker-compose can have several containers of `web`, too.
const UNPUBLISHED: &str = "\
version: '3.9'
services:
  web:
    image: evenkeel-echo
    environment: { NUMBER: 1, TEXT: 'a b', FLAG: 'yes' }
    labels: { team: shop }
    volumes: [\"data:/data\", \"/cache\"]
    healthcheck: { test: [CMD, /evenkeel, policies], interval: 1s, retries: 3 }
    deploy: { resources: { limits: { memory: 256M } } }
    restart: unless-stopped
    stop_grace_period: 3s
    depends_on: [db]
    networks: { back: { aliases: [www] }, default: }
  db:
    image: evenkeel-echo
    tmpfs: /run
    ulimits: { nofile: { soft: 2048, hard: 4096 } }
    expose: [5000]
volumes: { data: }
networks: { back: }
";

#[test]
fn compose_and_docker_compose_take_over_from_each_other() {
    let Some(engine) = Engine::start() else { return };
    if find("docker-compose").is_none() {
        return;
    }
    let site = Site::new(&engine, UNPUBLISHED);
    let theirs = |arguments: &[&str]| {
        engine.compose(&site.folder.0, &[&["-p", "site"], arguments].concat());
    };
    theirs(&["up", "-d", "--scale", "web=2"]);
    let first = site.ids("web");
    assert_eq!(first.len(), 2);
    // Ours leaves theirs as they are, and adds to them.
    site.run(&["up", "-d", "--scale", "web=3"]);
    let all = site.ids("web");
    assert!(all.len() == 3 && first.iter().all(|id| all.contains(id)), "{first:?} {all:?}");
    // Theirs leaves both as they are.
    theirs(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(site.ids("web"), all);
    theirs(&["up", "-d", "--scale", "web=2"]);
    assert_eq!(site.ids("web").len(), 2);
    // All from ours, taken over by theirs.
    site.run(&["down"]);
    site.run(&["up", "-d", "--scale", "web=2"]);
    let ours = [site.ids("web"), site.ids("db")];
    theirs(&["up", "-d", "--scale", "web=2"]);
    assert_eq!([site.ids("web"), site.ids("db")], ours);
    theirs(&["stop"]);
    let stopped = || site.containers("web").iter().all(|c| c["state"] == "exited");
    assert!(stopped());
    site.run(&["up", "-d", "--scale", "web=2"]);
    assert_eq!([site.ids("web"), site.ids("db")], ours, "started again, not made again");
    theirs(&["down", "-v"]);
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
    // (docker-compose leaves anonymous volumes of containers that it scaled away.)
    assert_eq!(engine.docker(&["volume", "ls", "-q", "--filter", "name=site"]), "");
}

const PUBLISHED: &str = "\
version: '3.9'
services:
  web: { image: evenkeel-echo, ports: [\"127.0.0.1:PORT:5000\"] }
";

/// docker-compose publishes the port on the one container that it can have; ours moves it to the
/// balancer, and then there can be three.
#[test]
fn compose_takes_over_a_published_port() {
    let Some(engine) = Engine::start() else { return };
    if find("docker-compose").is_none() {
        return;
    }
    let site = Site::new(&engine, PUBLISHED);
    engine.compose(&site.folder.0, &["-p", "site", "up", "-d"]);
    let theirs = site.ids("web");
    until("an answer of the engine's proxy", || {
        Client::try_get(site.address, "/").is_some_and(|response| response.status == 200)
    });
    site.run(&["up", "-d", "--scale", "web=3"]);
    let ours = site.ids("web");
    assert!(ours.len() == 3 && !ours.contains(&theirs[0]));
    let load = Wrk::start(site.address, "/", 8, LOAD_SECONDS);
    let answers: BTreeSet<u16> = (0..20).map(|_| Client::get(site.address, "/").status).collect();
    assert_eq!(answers, [200].into());
    // docker-compose finds its own configuration, and touches nothing.
    engine.compose(&site.folder.0, &["-p", "site", "up", "-d", "--scale", "web=3"]);
    assert_eq!(site.ids("web"), ours);
    load.stop().assert_perfect("docker-compose up over containers of ours");
    site.down();
}
