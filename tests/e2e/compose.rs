//! Compose files run by our own verbs, on a real engine: what `up` makes of them.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use super::docker_compose::Example;
use super::harness::engine::{ECHO, Engine, copy_program};
use super::harness::peer::Peer;
use super::harness::program::{BINARY, Folder, signal};
use super::harness::site::Site;
use super::harness::{Client, LOAD_SECONDS, Wrk, until};

/// The shape of the classic example: a web service with a published port, and what it needs.
pub const CLASSIC: &str = "\
services:
  flask:
    image: evenkeel-echo
    ports: [\"PORT:5000\"]
    depends_on: [redis]
  redis:
    image: evenkeel-echo
";

/// What the engine says of containers from now on, in order.
struct Events {
    _watcher: Peer,
    file: std::path::PathBuf,
    _folder: Folder,
}

impl Events {
    fn start(engine: &Engine) -> Events {
        let folder = Folder::new();
        let file = folder.join("events");
        let mut watcher = engine.client("docker");
        watcher.args(["events", "--since", "0", "--filter", "type=container"]);
        watcher.args(["--format", "{{.Action}} {{.Actor.ID}}"]);
        let watcher = watcher.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
        let events = Events { _watcher: Peer(watcher), file, _folder: folder };
        // One of which it is told shows that it listens.
        let probe = engine.docker(&["create", "evenkeel-echo"]);
        events.wait(&format!("create {probe}"));
        engine.docker(&["rm", &probe]);
        events
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// The number of the first line that is `event`.
    fn wait(&self, event: &str) -> usize {
        let mut found = None;
        until(&format!("{event} in {}", self.said()), || {
            found = self.said().lines().position(|line| line == event);
            found.is_some()
        });
        found.unwrap()
    }
}

#[test]
fn compose_builds_orders_and_mounts() {
    let Some(engine) = Engine::start() else { return };
    let folder = Folder::new();
    let app = folder.join("app");
    copy_program(BINARY, &app.join("root"), "/evenkeel");
    fs::write(app.join("secret.log"), "not for the image").unwrap();
    fs::write(app.join(".dockerignore"), "*.log\n").unwrap();
    let dockerfile = "FROM scratch\nARG NAME\nCOPY root /\nCOPY . /context/\nENV REPLICA=$NAME\n\
                      ENTRYPOINT [\"/evenkeel\", \"echo\", \"--http\", \"0.0.0.0:5000\"]\n";
    fs::write(app.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("web.env"), "FROM_FILE=file\nBOTH=file\n").unwrap();
    fs::write(folder.join(".env"), "TAG=built\n").unwrap();
    fs::write(folder.join("well.yaml"), "listeners: {}\n").unwrap();
    let file = "\
x-check: &check
  test: [CMD, /evenkeel, check, -c, /ok/well.yaml]
  interval: 1s
services:
  web:
    build: { context: app, args: { NAME: built } }
    image: site-web:${TAG}
    ports: [\"PORT:5000\"]
    env_file: web.env
    environment: { BOTH: here }
    volumes: [\"data:/data\", \"./well.yaml:/ok/well.yaml:ro\"]
    tmpfs: /scratch
    hostname: web-host
    labels: { evenkeel.health.http: /healthz }
    depends_on:
      db: { condition: service_healthy }
      setup: { condition: service_completed_successfully }
  db:
    image: evenkeel-echo
    healthcheck: *check
    volumes: [\"./well.yaml:/ok/well.yaml:ro\"]
  setup:
    image: evenkeel-echo
    entrypoint: [/evenkeel, policies]
  tool: { image: evenkeel-echo, profiles: [tools] }
volumes: { data: }
";
    // A check of `db` needs a configuration that is right.
    let well =
        "listeners: { web: { bind: :1, service: w } }\nservices: { w: { endpoints: [ :2 ] } }\n";
    fs::write(folder.join("well.yaml"), well).unwrap();
    let site = Site::in_folder(&engine, folder, file);
    let events = Events::start(&engine);
    site.run(&["up", "-d"]);
    assert!(Client::get(site.address, "/").text().starts_with("built "));
    assert_eq!(site.ids("tool").len(), 0);
    let container = site.ids("web").remove(0);
    let inspect = |what: &str| engine.docker(&["inspect", "-f", what, &container]);
    let environment = inspect("{{.Config.Env}}");
    assert!(
        environment.contains("FROM_FILE=file BOTH=here")
            || environment.contains("BOTH=here FROM_FILE=file"),
        "{environment}"
    );
    assert_eq!(inspect("{{.Config.Hostname}}"), "web-host");
    assert_eq!(inspect("{{.Name}}"), "/site-web-1");
    assert!(inspect("{{.HostConfig.Binds}}").contains("site_data:/data:rw"));
    assert!(inspect("{{.HostConfig.Tmpfs}}").contains("/scratch"));
    let found = engine.try_docker(&["cp", &format!("{container}:/context/secret.log"), "-"]);
    assert!(found.is_err(), ".dockerignore leaves it out");
    // `db` was healthy before `web` was made.
    let created = events.wait(&format!("create {container}"));
    let healthy = events.wait(&format!("health_status: healthy {}", site.ids("db")[0]));
    assert!(healthy < created, "{}", events.said());

    assert!(site.run(&["logs", "setup"]).contains("round_robin"));
    assert!(site.run(&["ps"]).contains("site-setup-1"));
    // Writing to a volume, it cannot run twice: the old one goes first, and the data stays.
    site.run(&["deploy", "web", "--force", "--watch", "1s"]);
    assert_ne!(site.ids("web"), [container]);
    site.run(&["stop"]);
    assert!(TcpStream::connect(site.address).is_err());
    site.run(&["up", "-d"]);
    assert!(Client::get(site.address, "/").text().starts_with("built "));
    assert_eq!(engine.docker(&["volume", "ls", "-q"]), "site_data");
    site.down();
    assert_eq!(engine.docker(&["volume", "ls", "-q"]), "");
}

#[test]
fn compose_merges_files_extends_and_gives_secrets() {
    let Some(engine) = Engine::start() else { return };
    let site = Site::new(
        &engine,
        "\
services:
  web:
    extends: { service: base, file: shared/base.yaml }
    ports: [\"PORT:5000\"]
    environment: { REPLICA: first }
    secrets: [password, { source: token, mode: 0440 }]
    configs: [{ source: inline, target: /etc/app/inline.yaml }]
secrets: { password: { file: ./password }, token: { environment: TOKEN } }
configs: { inline: { content: \"listeners: { web: { bind: :1, routes: [] } }\" } }
",
    );
    let write = |name: &str, text: &str| fs::write(site.folder.join(name), text).unwrap();
    fs::create_dir(site.folder.join("shared")).unwrap();
    write(
        "shared/base.yaml",
        "services: { base: { image: evenkeel-echo, labels: { from: base }, volumes: [\"./data:/data:ro\"] } }\n",
    );
    fs::create_dir(site.folder.join("shared/data")).unwrap();
    write("shared/data/here", "shared");
    write("password", "of a file");
    write("compose.override.yaml", "services: { web: { environment: [REPLICA=second] } }\n");
    write("third.yaml", "services: { web: { environment: [REPLICA=third] } }\n");
    let up = |arguments: &[&str], token: &str| {
        let output = site.command(arguments).env("TOKEN", token).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let answer = || Client::get(site.address, "/").text();
    let text_of = |container: &str, file: &str| {
        let archive = site.folder.join("copied");
        let from = format!("{container}:{file}");
        engine.docker(&["cp", &from, archive.to_str().unwrap()]);
        fs::read_to_string(archive).unwrap()
    };
    // The file beside the one that is found is merged on top of it.
    up(&["up", "-d"], "t0p");
    assert!(answer().starts_with("second "), "{}", answer());
    let id = site.ids_with("web", "t0p").remove(0);
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Config.Labels.from}}", &id]), "base");
    assert_eq!(text_of(&id, "/data/here"), "shared");
    assert_eq!(text_of(&id, "/run/secrets/token"), "t0p");
    assert!(text_of(&id, "/etc/app/inline.yaml").starts_with("listeners: "));
    let mounts = engine.docker(&["inspect", "-f", "{{json .Mounts}}", &id]);
    assert!(mounts.contains("/password") && mounts.contains("/run/secrets/password"), "{mounts}");
    // Nothing has changed; then a secret has.
    up(&["up", "-d"], "t0p");
    assert_eq!(site.ids_with("web", "t0p"), std::slice::from_ref(&id));
    let load = Wrk::start(site.address, "/", 8, LOAD_SECONDS);
    up(&["up", "-d"], "changed");
    load.stop().assert_perfect("up with another secret");
    let changed = site.ids_with("web", "changed").remove(0);
    assert_ne!(changed, id);
    assert_eq!(text_of(&changed, "/run/secrets/token"), "changed");
    // Files that are named are all that is read.
    up(&["up", "-d", "-f", "compose.yaml"], "changed");
    assert!(answer().starts_with("first "), "{}", answer());
    up(&["up", "-d", "-f", "compose.yaml", "-f", "third.yaml"], "changed");
    assert!(answer().starts_with("third "), "{}", answer());
    up(&["down", "-v"], "changed");
    until("the end of the balancer", || site.balancers().is_empty());
}

#[test]
fn compose_gives_texts_to_containers_that_cannot_be_written() {
    let Some(engine) = Engine::start() else { return };
    let site = Site::new(
        &engine,
        "\
services:
  web:
    image: evenkeel-echo
    entrypoint: [/evenkeel, run, -c, /etc/app.yaml]
    command: []
    read_only: true
    user: \"1000\"
    ports: [\"PORT:5000\"]
    secrets: [{ source: token, uid: \"1000\", mode: 0400 }]
    configs: [{ source: app, target: /etc/app.yaml }]
  hidden:
    image: evenkeel-echo
    tmpfs: [/run]
    secrets: [token]
secrets: { token: { environment: TOKEN } }
configs:
  app:
    content: |
      listeners: { web: { bind: 0.0.0.0:5000, routes: [ { respond: { status: 200, body: $TOKEN } } ] } }
",
    );
    let run = |arguments: &[&str], token: &str| {
        let output = site.command(arguments).env("TOKEN", token).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let given = |service: &str| -> BTreeSet<std::path::PathBuf> {
        let states = fs::read_dir(site.folder.join("state")).unwrap().flatten();
        let folders = states.filter_map(|state| fs::read_dir(state.path().join("given")).ok());
        let paths = folders.flatten().flatten().map(|folder| folder.path());
        let own = |path: &std::path::PathBuf| {
            path.file_name().unwrap().to_str().unwrap().starts_with(service)
        };
        paths.filter(own).collect()
    };
    let secret = |id: &str, to: &str| {
        let copied = site.folder.join(to);
        engine.docker(&["cp", &format!("{id}:/run/secrets/token"), copied.to_str().unwrap()]);
        let mode = fs::metadata(&copied).unwrap().permissions().mode() & 0o777;
        (fs::read_to_string(copied).unwrap(), mode)
    };
    run(&["up", "-d", "--scale", "web=2"], "t0p");
    // Its process, which is not root's, has read its config.
    assert_eq!(Client::get(site.address, "/").text(), "t0p");
    let ids = site.ids_with("web", "t0p");
    assert_eq!((ids.len(), secret(&ids[0], "first")), (2, ("t0p".into(), 0o400)));
    let hidden = site.ids_with("hidden", "t0p").remove(0);
    assert_eq!(secret(&hidden, "hidden"), ("t0p".into(), 0o444));
    let folders = given("web");
    assert_eq!(folders.len(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folders.first().unwrap()), 0o700);
    // With another text they are made anew, and the old text goes with the old containers.
    let load = Wrk::start(site.address, "/", 4, LOAD_SECONDS);
    run(&["up", "-d", "--scale", "web=2"], "changed");
    load.stop().assert_perfect("up with another text");
    assert_eq!(Client::get(site.address, "/").text(), "changed");
    assert!(given("web").len() == 1 && given("web").is_disjoint(&folders));
    // What was in memory is gone with a restart of the machine; `up` makes it again.
    run(&["stop"], "changed");
    let ids = site.ids_with("web", "changed");
    fs::remove_dir_all(given("web").first().unwrap()).unwrap();
    run(&["up", "-d", "--scale", "web=2"], "changed");
    assert_eq!(site.ids_with("web", "changed"), ids);
    assert_eq!(Client::get(site.address, "/").text(), "changed");
    run(&["down", "-v"], "changed");
    assert_eq!(fs::read_dir(site.folder.join("state")).unwrap().count(), 0);
}

#[test]
fn compose_what_cannot_be_is_told() {
    let Some(engine) = Engine::start() else { return };
    let site = Site::new(&engine, "services:\n  web: { image: x, prots: [] }\n");
    let said = site.try_run(&["up", "-d"]);
    assert!(!said.ok && said.err.contains("compose.yaml:2:20: error: unknown key"), "{said:?}");
    assert!(said.err.contains("did you mean `ports`?"), "{said:?}");
    site.write("services:\n  web: { image: none/such:1, pull_policy: never }\n");
    let said = site.try_run(&["up", "-d"]);
    assert!(said.err.contains("the image none/such:1 is not there"), "{said:?}");
    site.write(&CLASSIC.replace("ports:", "x-evenkeel: { policy: fastest }\n    ports:"));
    let said = site.try_run(&["up", "-d"]);
    assert!(!said.ok && said.err.contains("fastest"), "{said:?}");
    site.write(CLASSIC);
    let said = site.try_run(&["up", "-d", "fask"]);
    assert!(said.err.contains("there is no service fask; did you mean `flask`?"), "{said:?}");
    let said = site.try_run(&["deploy", "flask"]);
    assert!(said.err.contains("nothing of flask runs"), "{said:?}");
    // In the foreground Ctrl-C stops all.
    let mut up = site.command(&["up"]).stdout(Stdio::null()).spawn().unwrap();
    until("an answer", || Client::try_get(site.address, "/").is_some_and(|r| r.status == 200));
    until("all is up", || site.containers("flask").iter().all(|c| c["state"] == "running"));
    signal(up.id(), "INT");
    assert!(up.wait().unwrap().success());
    let states: BTreeSet<String> =
        site.containers("flask").iter().map(|c| c["state"].as_str().unwrap().into()).collect();
    assert_eq!(states, ["exited".to_owned()].into());
    site.down();
}

#[test]
fn compose_example_up_flask() {
    let Some(example) = Example::start("examples/up-flask") else { return };
    let Example { engine, folder } = example;
    let file = fs::read_to_string(folder.join("compose.yaml")).unwrap();
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/up-flask").exists());
    let site = Site::in_folder(&engine, folder, &file.replace("8080:5000", "PORT:5000"));
    site.run(&["up", "-d", "--scale", "web=3"]);
    assert!(Client::get(site.address, "/").text().contains(": seen "));
    let load = Wrk::start(site.address, "/", 8, LOAD_SECONDS);
    site.run(&["scale", "-f", "compose.yaml", "web=1"]);
    site.run(&["scale", "-f", "compose.yaml", "web=3"]);
    site.run(&["scale", "-f", "compose.yaml", "web=1"]);
    load.stop().assert_perfect("examples/up-flask: scale web=1, 3, 1");
    let before = site.ids("web");
    site.run(&["up", "-d", "--force-recreate"]);
    assert_ne!(site.ids("web"), before);
    let hosts = |count: usize| -> BTreeSet<String> {
        let host = |_| Client::get(site.address, "/").text().split(':').next().unwrap().to_owned();
        (0..count).map(host).collect()
    };
    assert_eq!(hosts(6).len(), 1);
    assert!(engine.docker(&["images", "-q", ECHO]).len() > 4);
    site.down();
}

#[test]
fn compose_autoscale_follows_the_load() {
    let Some(engine) = Engine::start() else { return };
    let autoscale =
        "x-evenkeel: { autoscale: { max: 3, in_flight: 2, up_after: 1s, down_after: 2s } }";
    let site = Site::new(&engine, &CLASSIC.replace("ports:", &format!("{autoscale}\n    ports:")));
    site.run(&["up", "-d"]);
    let errors = fs::File::create(site.folder.join("autoscale")).unwrap();
    let mut child =
        site.command(&["autoscale", "--every", "100ms"]).stderr(errors).spawn().unwrap();
    let said = || fs::read_to_string(site.folder.join("autoscale")).unwrap();
    // Each request takes long enough to be seen in flight.
    let load = Wrk::start(site.address, "/delay/20", 8, LOAD_SECONDS);
    until("three containers", || site.ids("flask").len() == 3);
    load.stop().assert_perfect("autoscale 1 -> 3");
    until("one container", || site.ids("flask").len() == 1);
    assert!(said().contains("in flight each, target 2, for 1s"), "{}", said());
    assert!(site.run(&["ps"]).contains("autoscale: flask: "));
    // The balancer says the same as `status` and as JSON.
    let admin = site.admin();
    let shown = site.run(&["status", "--admin", &admin]);
    let shown: Vec<Vec<&str>> =
        shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let grown = shown.iter().position(|line| line.get(2..4) == Some(&["->", "3"]));
    let shrunk = shown.iter().position(|line| line.get(2..4) == Some(&["->", "1"]));
    assert!(shrunk.unwrap() < grown.unwrap(), "the last on top: {shown:?}");
    let json = site.run(&["status", "--json", "--admin", &admin]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let first = &json["autoscale"][0];
    assert_eq!((&first["service"], &first["from"]), (&"flask".into(), &1.into()), "{first}");
    assert!(first["reason"].as_str().unwrap().contains("target 2, for 1s"), "{first}");
    assert!(first["unix_ms"].as_u64() > Some(1_700_000_000_000), "{first}");
    // A bounded number is kept.
    let note = r#"{"service":"a","from":1,"to":2,"reason":"b"}"#;
    for _ in 0..40 {
        let request = format!(
            "POST /v1/autoscale HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nConnection: close\r\n\r\n{note}",
            note.len()
        );
        let answer = Client::exchange(admin.parse().unwrap(), request).unwrap();
        assert_eq!(answer.status, 200);
    }
    let json = Client::get(admin.parse().unwrap(), "/v1/autoscale").text();
    assert_eq!(json.matches("unix_ms").count(), 32, "{json}");
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
    site.down();
}
