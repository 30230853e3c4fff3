//! Containers of a real engine: who serves follows what happens to them, under load, without one
//! failed request.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::engine::{ECHO, ECHO_CHECKED, Engine, copy_program, watchers};
use super::harness::peer::{find, skip};
use super::harness::program::{BINARY, Folder, pids_with_env, signal};
use super::harness::{Client, Evenkeel, Wrk, free_port, until, within};

/// A balancer whose only configuration is where the engine is and where to listen.
struct Balancer {
    program: Evenkeel,
    address: SocketAddr,
}

/// Longer than any of the tests lets it run: it is stopped.
const LOAD_SECONDS: u64 = 120;

impl Balancer {
    fn start(engine: &Engine, more: &str) -> Balancer {
        Self::start_with(engine, "", more)
    }

    /// `options` of the provider, and `more` of the file.
    fn start_with(engine: &Engine, options: &str, more: &str) -> Balancer {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let socket = engine.socket();
        let program = Evenkeel::run(&format!(
            "admin: {{ bind: ADMIN }}\n\
             providers: {{ docker: {{ socket: {socket}, statistics: 1s, {options} }} }}\n\
             listeners:\n  web: {{ bind: {address} }}\n{more}"
        ));
        Balancer { program, address }
    }

    fn load(&self) -> Wrk {
        Wrk::start(self.address, "/", 8, LOAD_SECONDS)
    }

    /// Who answers.
    fn answers(&self, host: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = Client::exchange(self.address, request).unwrap();
        match response.status {
            200 => response.text().split(' ').next().unwrap_or_default().to_owned(),
            status => status.to_string(),
        }
    }

    /// The endpoints of a service that are listed, by state.
    fn states(&self, service: &str) -> Vec<String> {
        let all = self.program.api("/v1/services");
        let all = all["services"].as_array().unwrap();
        let Some(service) = all.iter().find(|s| s["name"] == service) else { return Vec::new() };
        let mut states: Vec<String> = service["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["state"].as_str().unwrap().to_owned())
            .collect();
        states.sort();
        states
    }

    fn wait_healthy(&self, service: &str, count: usize) {
        let states = || self.states(service);
        until(&format!("{count} of {service}; {}", self.program.log()), || {
            states().len() == count && states().iter().all(|state| state == "healthy")
        });
    }

    fn discovery(&self) -> Value {
        self.program.api("/v1/discovery")["discovery"][0].clone()
    }

    fn wait_left_out(&self, name: &str, reason: &str) {
        until(&format!("{name} left out: {reason}: {}", self.discovery()), || {
            let discovery = self.discovery();
            let all = discovery["left_out"].as_array().unwrap();
            all.iter().any(|l| l["name"] == name && l["reason"].as_str().unwrap().contains(reason))
        });
    }
}

const WEB: [&str; 2] = ["evenkeel.service=web", "evenkeel.path=/*"];

#[test]
fn docker_whatever_happens_to_a_container_no_request_fails() {
    let Some(engine) = Engine::start() else { return };
    let mut balancer = Balancer::start(&engine, "");
    for name in ["web1", "web2", "web3"] {
        engine.run(name, &WEB);
    }
    balancer.wait_healthy("web", 3);
    let load = balancer.load();
    let everyone = |balancer: &Balancer| {
        until("everyone answers", || {
            let names = ["web1", "web2", "web3"];
            let mut seen: Vec<String> = (0..6).map(|_| balancer.answers("x")).collect();
            seen.sort();
            seen.dedup();
            seen == names
        });
    };
    everyone(&balancer);

    // Stopped: drained before its process is gone, then it is no endpoint any more.
    engine.docker(&["stop", "web1"]);
    balancer.wait_healthy("web", 2);
    engine.docker(&["start", "web1"]);
    balancer.wait_healthy("web", 3);
    engine.docker(&["kill", "web2"]);
    balancer.wait_healthy("web", 2);
    engine.docker(&["start", "web2"]);
    balancer.wait_healthy("web", 3);
    engine.docker(&["restart", "web3"]);
    balancer.wait_healthy("web", 3);
    // A signal that does not end it changes nothing.
    engine.docker(&["kill", "-s", "WINCH", "web3"]);
    assert_eq!(balancer.states("web").len(), 3);
    // Paused: its kernel still accepts connections, so only the engine can tell.
    engine.docker(&["pause", "web1"]);
    balancer.wait_left_out("web1", "is paused");
    let before = Instant::now();
    assert!((0..6).all(|_| balancer.answers("x") != "web1"));
    assert!(before.elapsed() < Duration::from_secs(2));
    engine.docker(&["unpause", "web1"]);
    balancer.wait_healthy("web", 3);
    // Out of memory, or a crash: nothing announces it.
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "web2"]);
    signal(pid.parse().unwrap(), "KILL");
    balancer.wait_healthy("web", 2);
    engine.docker(&["rm", "-f", "web2"]);
    engine.run("web2", &WEB);
    balancer.wait_healthy("web", 3);
    everyone(&balancer);
    load.stop().assert_perfect("stop, kill, restart, pause, crash, remove");

    // The process that carries traffic never has the engine's socket.
    let of_engine = engine.socket();
    let log = fs::read_to_string("/proc/net/unix").unwrap();
    let inodes: Vec<&str> = log
        .lines()
        .filter(|line| line.ends_with(&of_engine))
        .filter_map(|line| line.split_whitespace().nth(6))
        .collect();
    assert!(!inodes.is_empty());
    for file in fs::read_dir(format!("/proc/{}/fd", balancer.program.child.id())).unwrap() {
        let target = fs::read_link(file.unwrap().path()).unwrap_or_default();
        let target = target.display().to_string();
        assert!(!inodes.iter().any(|inode| target == format!("socket:[{inode}]")), "{target}");
    }

    // Statistics reach the status.
    until("statistics", || {
        balancer.discovery()["usage"].as_array().is_some_and(|usage| {
            usage.len() == 3 && usage.iter().all(|u| u["memory_bytes"].as_u64() > Some(0))
        })
    });

    // The last one goes, and with it the service and its route.
    for name in ["web1", "web2", "web3"] {
        engine.docker(&["rm", "-f", name]);
    }
    until("no service", || balancer.answers("x") == "404");

    // The watcher ends with the balancer, however that ends.
    let socket = engine.socket();
    assert_eq!(watchers(&socket).len(), 1);
    balancer.program.signal("KILL");
    balancer.program.wait_exit();
    until("the watcher's end", || watchers(&socket).is_empty());
}

#[test]
fn docker_compose_scales_under_load() {
    let Some(engine) = Engine::start() else { return };
    if find("docker-compose").is_none() {
        return;
    }
    let balancer = Balancer::start(
        &engine,
        "  default: { bind: 127.0.0.1:0, service: app }\n\
         services: { app: { discover: { docker: { compose_service: app } } } }",
    );
    let folder = Folder::new();
    let compose = format!(
        "version: '2.4'\n\
         services:\n  app:\n    image: {ECHO}\n    labels: {{ evenkeel.weight: '1' }}\n"
    );
    fs::write(folder.join("compose.yaml"), compose).unwrap();
    engine.compose(&folder.0, &["up", "-d", "--scale", "app=1"]);
    balancer.wait_healthy("app", 1);
    let listener = balancer.program.listener("default")["bind"].as_str().unwrap().to_owned();
    let load = Wrk::start(listener.parse().unwrap(), "/", 8, LOAD_SECONDS);
    for _ in 0..3 {
        engine.compose(&folder.0, &["up", "-d", "--scale", "app=3"]);
        balancer.wait_healthy("app", 3);
        engine.compose(&folder.0, &["up", "-d", "--scale", "app=1"]);
        balancer.wait_healthy("app", 1);
    }
    load.stop().assert_perfect("docker-compose up --scale app=3, then =1, three times");
    engine.compose(&folder.0, &["down"]);
    until("nobody", || balancer.states("app").is_empty());
}

#[test]
fn docker_restart_of_the_engine_and_of_the_watcher() {
    let Some(mut engine) = Engine::start() else { return };
    let balancer = Balancer::start(&engine, "");
    for name in ["web1", "web2", "web3"] {
        engine.run(name, &WEB);
    }
    balancer.wait_healthy("web", 3);
    let load = balancer.load();
    engine.stop_daemon();
    until("the engine is missed", || balancer.discovery()["connected"] == false);
    assert_eq!(balancer.states("web"), ["healthy"; 3]);
    // One dies while the engine is away: the kernel tells.
    let pid = pids_with_env("REPLICA=web2");
    signal(pid[0], "KILL");
    within(Duration::from_secs(2), "web2 is out", || balancer.states("web").len() == 2);
    engine.start_daemon();
    until("the engine is back", || balancer.discovery()["connected"] == true);
    assert_eq!(balancer.states("web"), ["healthy"; 2]);
    engine.docker(&["start", "web2"]);
    balancer.wait_healthy("web", 3);

    let [watcher] = watchers(&engine.socket())[..] else { panic!("one watcher") };
    signal(watcher, "KILL");
    until("another watcher", || {
        let all = watchers(&engine.socket());
        all.len() == 1 && all[0] != watcher && balancer.discovery()["connected"] == true
    });
    assert_eq!(balancer.states("web"), ["healthy"; 3]);
    engine.docker(&["rm", "-f", "web3"]);
    balancer.wait_healthy("web", 2);
    load.stop().assert_perfect("restart of the engine and of the watcher");
}

/// Containers of two services take over each other's addresses, again and again.
#[test]
fn docker_an_address_that_changes_hands_takes_no_request_along() {
    let Some(engine) = Engine::start() else { return };
    let balancer = Balancer::start(&engine, "");
    let network = format!("10.215.{}.0/29", std::process::id() % 250);
    engine.docker(&["network", "create", "--subnet", &network, "small"]);
    let prefix = network.trim_end_matches("0/29").to_owned();
    let labels = |service: &str| {
        [format!("evenkeel.service={service}"), format!("evenkeel.host={service}.example")]
    };
    let run = |service: &str, address: &str| {
        let labels = labels(service);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        engine.run_with(service, &labels, &["--network", "small", "--ip", address]);
    };
    let [one, two] = [2, 3].map(|last| format!("{prefix}{last}"));
    run("aa", &one);
    run("bb", &two);
    balancer.wait_healthy("aa", 1);
    balancer.wait_healthy("bb", 1);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asking: Vec<_> = ["aa", "bb"]
        .map(|service| {
            let (stop, address) = (stop.clone(), balancer.address);
            std::thread::spawn(move || {
                let mut answers: BTreeMap<String, u64> = BTreeMap::new();
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let host = format!("{service}.example");
                    let request =
                        format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                    let Ok(response) = Client::exchange(address, request) else { continue };
                    let who = match response.status {
                        200 => response.text().split(' ').next().unwrap().to_owned(),
                        // Nobody serves it at this moment.
                        404 | 502 | 503 | 504 => continue,
                        status => panic!("{status}"),
                    };
                    *answers.entry(format!("{service}<-{who}")).or_default() += 1;
                }
                answers
            })
        })
        .into_iter()
        .collect();
    for round in 0..5 {
        // Half of the time without any warning.
        let end: &[&str] = if round % 2 == 0 { &["rm", "-f"] } else { &["kill", "-s", "KILL"] };
        engine.docker(&[end, &["aa", "bb"]].concat());
        let _ = engine.try_docker(&["rm", "-f", "aa", "bb"]);
        let (first, second) = if round % 2 == 0 { (&two, &one) } else { (&one, &two) };
        run("aa", first);
        run("bb", second);
        balancer.wait_healthy("aa", 1);
        balancer.wait_healthy("bb", 1);
        until("each answers", || {
            balancer.answers("aa.example") == "aa" && balancer.answers("bb.example") == "bb"
        });
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for thread in asking {
        for (who, count) in thread.join().unwrap() {
            *seen.entry(who).or_default() += count;
        }
    }
    let kinds: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["aa<-aa", "bb<-bb"], "{seen:?}");
    engine.docker(&["rm", "-f", "aa", "bb"]);
    engine.docker(&["network", "rm", "small"]);
}

#[test]
fn docker_labels_networks_and_health() {
    let Some(engine) = Engine::start() else { return };
    let balancer = Balancer::start_with(&engine, "traefik_labels: true, virtual_host: true", "");
    let shop = ["evenkeel.host=shop.example", "evenkeel.policy=least_request"];
    engine.run("shop", &shop);
    balancer.wait_healthy("shop", 1);
    assert_eq!(balancer.answers("shop.example"), "shop");
    assert_eq!(balancer.program.service("shop")["policy"], "least_request");
    engine.run("plain", &["evenkeel.enable=true"]);
    balancer.wait_healthy("plain", 1);
    assert_eq!(balancer.answers("plain.localhost"), "plain");
    // In the words of others.
    let traefik = [
        "traefik.enable=true",
        "traefik.http.routers.t.rule=Host(`t.example`) && PathPrefix(`/`)",
        "traefik.http.routers.t.tls.certresolver=le",
        "traefik.http.services.t.loadbalancer.server.port=5000",
    ];
    engine.run("tt", &traefik);
    balancer.wait_healthy("tt", 1);
    assert_eq!(balancer.answers("t.example"), "tt");
    let notes = balancer.discovery()["notes"].to_string();
    assert!(notes.contains("tls.certresolver is not understood"), "{notes}");
    engine.run_with("vv", &[], &["-e", "VIRTUAL_HOST=v.example", "-e", "VIRTUAL_PORT=5000"]);
    balancer.wait_healthy("vv", 1);
    assert_eq!(balancer.answers("v.example"), "vv");
    // What is wrong is told, and harms no other.
    engine.run("wrong", &["evenkeel.host=shop.example", "evenkeel.retry.attempts=many"]);
    balancer.wait_left_out("wrong", "label evenkeel.retry.attempts: `attempts` must be");
    engine.run("other", &["evenkeel.port=5000", "evenkeel.host=shop.example"]);
    until("the conflict is told", || {
        balancer.discovery()["notes"].to_string().contains("service other: another route")
    });
    assert_eq!(balancer.answers("shop.example"), "shop");
    let (done, said) = balancer.program.verb(&["status"]);
    assert!(done && said.contains("LEFT OUT") && said.contains("wrong"), "{said}");

    // Networks: it follows from one to another.
    engine.docker(&["network", "create", "back"]);
    engine.run("moving", &["evenkeel.host=m.example", "evenkeel.service=moving"]);
    balancer.wait_healthy("moving", 1);
    engine.docker(&["network", "connect", "back", "moving"]);
    engine.docker(&["network", "disconnect", "bridge", "moving"]);
    let moved = engine.docker(&[
        "inspect",
        "-f",
        "{{.NetworkSettings.Networks.back.IPAddress}}:5000",
        "moving",
    ]);
    until(&format!("it is at {moved}; {}", balancer.program.service("moving")), || {
        let service = balancer.program.service("moving");
        service["endpoints"][0]["address"] == moved && balancer.answers("m.example") == "moving"
    });
    engine.docker(&["network", "disconnect", "back", "moving"]);
    balancer.wait_left_out("moving", "has no address");
    engine.docker(&["rm", "-f", "moving"]);
    engine.docker(&["network", "rm", "back"]);

    // Its own health check.
    let folder = Folder::new();
    let mount = format!("{}:/ok", folder.0.display());
    engine.run_with("checked", &["evenkeel.host=c.example"], &["-v", &mount, ECHO_CHECKED]);
    balancer.wait_left_out("checked", "has not passed");
    let well = "listeners: { a: { bind: ':1', routes: [ { respond: 200 } ] } }";
    fs::write(folder.join("file"), well).unwrap();
    balancer.wait_healthy("checked", 1);
    assert_eq!(balancer.answers("c.example"), "checked");
    fs::remove_file(folder.join("file")).unwrap();
    until("it is drained", || balancer.states("checked") == ["draining"]);
    assert_eq!(balancer.answers("c.example"), "503");
    fs::write(folder.join("file"), well).unwrap();
    balancer.wait_healthy("checked", 1);
}

/// The whole configuration is that containers are discovered.
#[test]
fn docker_nothing_but_the_provider_is_enough() {
    let folder = Folder::new();
    let file = folder.join("evenkeel.yaml");
    fs::write(&file, "providers: { docker: {} }\n").unwrap();
    let output = Command::new(BINARY).args(["check", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("ok (1 listener, 0 services)"), "{said}");
}

/// The examples as their READMEs say, with images made of this machine's programs: nothing can be
/// pulled where these tests run.
#[test]
fn docker_example_with_labels() {
    let Some(example) = Example::start("examples/compose-labels") else { return };
    example.engine.compose(&example.folder.0, &["up", "-d", "--scale", "shop=2"]);
    let balancer = example.balance();
    balancer.wait_healthy("shop", 2);
    balancer.wait_healthy("images", 1);
    let response = Client::get(balancer.address, "/images/cat");
    assert!(response.text().ends_with(" /cat\n"), "{}", response.text());
    let load = balancer.load();
    for count in [4, 2, 3, 1] {
        let scale = format!("shop={count}");
        example.engine.compose(&example.folder.0, &["up", "-d", "--scale", &scale]);
        balancer.wait_healthy("shop", count);
    }
    load.stop().assert_perfect("examples/compose-labels, scaled");
    example.engine.compose(&example.folder.0, &["down"]);
    until("routes and services are gone", || {
        Client::get(balancer.address, "/").status == 404 && balancer.states("shop").is_empty()
    });
}

#[test]
fn docker_example_with_flask_and_redis() {
    let Some(example) = Example::start("examples/compose-flask") else { return };
    example.engine.compose(&example.folder.0, &["up", "-d"]);
    let balancer = example.balance();
    balancer.wait_healthy("flask", 1);
    assert!(Client::get(balancer.address, "/").text().contains(": seen "));
    let load = balancer.load();
    for count in [3, 1, 3, 1] {
        let scale = format!("web={count}");
        example.engine.compose(&example.folder.0, &["up", "-d", "--scale", &scale]);
        balancer.wait_healthy("flask", count);
    }
    load.stop().assert_perfect("examples/compose-flask, scaled");
    example.engine.compose(&example.folder.0, &["down"]);
}

struct Example {
    engine: Engine,
    folder: Folder,
}

impl Example {
    fn start(example: &str) -> Option<Example> {
        find("docker-compose")?;
        let redis = find("redis-server")?;
        let modules = ["-c", "import flask, redis, os; print(os.path.dirname(flask.__path__[0]))"];
        let output = Command::new("python3").args(modules).output().unwrap();
        if !output.status.success() {
            skip("examples with Compose", "Python's flask and redis are not installed");
            return None;
        }
        let engine = Engine::start()?;
        let folder = Folder::new();
        for file in fs::read_dir(examples().join(example)).unwrap().flatten() {
            fs::copy(file.path(), folder.join(file.file_name().to_str().unwrap())).unwrap();
        }
        if example.ends_with("flask") {
            let root = engine.folder.join("redis");
            copy_program(&redis, &root, "/redis-server");
            let run = r#"CMD ["/redis-server","--save","","--protected-mode","no"]"#;
            engine.import(&root, "redis:alpine", &[run]);
        }
        let root = engine.folder.join("python");
        let modules = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        copy_python(&root, &modules);
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::create_dir_all(root.join("code")).unwrap();
        engine.import(&root, "python:3-slim", &["ENV PATH=/usr/bin"]);
        fs::copy(examples().join("examples/compose-flask/app.py"), root.join("code/app.py"))
            .unwrap();
        // As its Dockerfile says.
        let changes = [
            "WORKDIR /code",
            "ENV PATH=/usr/bin FLASK_APP=app.py FLASK_RUN_HOST=0.0.0.0",
            "EXPOSE 5000",
            r#"CMD ["python3", "-m", "flask", "run"]"#,
        ];
        engine.import(&root, "compose-flask-web", &changes);
        Some(Example { engine, folder })
    }

    /// With the example's configuration, on ports and a socket of the test's own.
    fn balance(&self) -> Balancer {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = fs::read_to_string(self.folder.join("evenkeel.yaml")).unwrap();
        let socket = format!("docker: {{ socket: {} }}", self.engine.socket());
        let text = text
            .replace("127.0.0.1:9900", "ADMIN")
            .replace("127.0.0.1:8080", &address.to_string())
            .replace("docker: {} }", &format!("{socket} }}"));
        assert!(text.contains(&socket) && text.contains(&address.to_string()));
        Balancer { program: Evenkeel::run(&text), address }
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The system's Python, and these modules beside it.
fn copy_python(root: &Path, modules: &str) {
    let python = fs::canonicalize("/usr/bin/python3").unwrap();
    copy_program(python.to_str().unwrap(), root, "/usr/bin/python3");
    let library = format!("/usr/lib/{}", python.file_name().unwrap().to_str().unwrap());
    let to = root.join("usr/lib");
    fs::create_dir_all(&to).unwrap();
    let copied = Command::new("cp").args(["-rL", &library]).arg(&to).status().unwrap();
    assert!(copied.success());
    let to = root.join("usr/lib/python3/dist-packages");
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copied = Command::new("cp").args(["-rL", modules]).arg(&to).status().unwrap();
    assert!(copied.success());
    // What its modules of C are linked with.
    for library in fs::read_dir(format!("{library}/lib-dynload")).unwrap().flatten() {
        let path = library.path();
        copy_program(path.to_str().unwrap(), root, path.to_str().unwrap());
    }
}
