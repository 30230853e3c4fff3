//! Containers of a real engine: who serves follows what happens to them, under load, without one
//! failed request.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use super::harness::balancer::assert_prompt;
use super::harness::engine::{ECHO_CHECKED, Engine, watchers};
use super::harness::peer::skip;
use super::harness::program::{BINARY, Folder, pids_with_env, signal};
use super::harness::wait::{PATIENCE, pause};
use super::harness::{Balancer, Client, Evenkeel, until};

const WEB: [&str; 2] = ["evenkeel.service=web", "evenkeel.path=/*"];

/// All that can happen to containers by command, under load; everybody is healthy before and after.
fn whatever_happens(engine: &Engine, balancer: &Balancer) -> Vec<Duration> {
    let back = |count: usize| {
        balancer.wait_healthy("web", count);
        balancer.wait_serving("web", count)
    };
    // Stopped: drained before its process is gone, then it is no endpoint any more.
    engine.docker(&["stop", "web1"]);
    let mut times = vec![back(2)];
    engine.docker(&["start", "web1"]);
    times.push(back(3));
    engine.docker(&["kill", "web2"]);
    times.push(back(2));
    engine.docker(&["start", "web2"]);
    times.push(back(3));
    engine.docker(&["restart", "web3"]);
    times.push(back(3));
    // A signal that does not end it changes nothing.
    engine.docker(&["kill", "-s", "WINCH", "web3"]);
    assert_eq!(balancer.states("web").len(), 3);
    // Paused: its kernel still accepts connections, so only the engine can tell.
    engine.docker(&["pause", "web1"]);
    balancer.wait_left_out("web1", "is paused");
    let before = Instant::now();
    assert!((0..6).all(|_| balancer.answers("x") != "web1"));
    // A connection to it would be given up after ten seconds, and its first byte waited for for longer.
    assert!(before.elapsed() < Duration::from_secs(8));
    engine.docker(&["unpause", "web1"]);
    times.push(back(3));
    times
}

/// Three containers of one service, found by their labels.
fn three(engine: &Engine) -> Balancer {
    let balancer = Balancer::start(engine, "");
    for name in ["web1", "web2", "web3"] {
        engine.run(name, &WEB);
    }
    balancer.wait_healthy("web", 3);
    balancer
}

#[cfg(feature = "soak")]
#[test]
fn soak_docker_whatever_happens_twenty_times() {
    let Some(mut engine) = Engine::start() else { return };
    let balancer = three(&engine);
    let load = balancer.load();
    let times = (0..20).flat_map(|_| whatever_happens(&engine, &balancer)).collect();
    let slowest = assert_prompt(times);
    load.stop().assert_perfect(&format!(
        "stop, kill, restart, pause, unpause, 20 times, traffic within {slowest:?}"
    ));
    let load = balancer.load();
    for _ in 0..20 {
        engine.stop_daemon();
        until("the engine is missed", || balancer.discovery()["connected"] == false);
        engine.start_daemon();
        until("the engine is back", || balancer.discovery()["connected"] == true);
        assert_eq!(balancer.states("web"), ["healthy"; 3]);
    }
    load.stop().assert_perfect("restart of the engine, 20 times");
}

#[test]
fn docker_whatever_happens_to_a_container_no_request_fails() {
    let Some(engine) = Engine::start() else { return };
    let mut balancer = three(&engine);
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
    let slowest = assert_prompt(whatever_happens(&engine, &balancer));
    // Out of memory, or a crash: nothing announces it.
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "web2"]);
    signal(pid.parse().unwrap(), "KILL");
    balancer.wait_healthy("web", 2);
    engine.docker(&["rm", "-f", "web2"]);
    engine.run("web2", &WEB);
    balancer.wait_healthy("web", 3);
    everyone(&balancer);
    load.stop().assert_perfect(&format!(
        "stop, kill, restart, pause, crash, remove; traffic within {slowest:?}"
    ));

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

    let (done, said) = balancer.program.verb(&["status"]);
    assert!(done && said.contains("CPUS") && said.contains(" MiB"), "{said}");
    let metrics = Client::get(balancer.program.admin, "/metrics").text();
    assert!(metrics.contains("evenkeel_container_cpus{container="), "{metrics}");
    until("the policy's number", || {
        let service = balancer.program.service("web");
        let all = service["endpoints"].as_array().unwrap();
        all.len() == 3 && all.iter().all(|endpoint| endpoint["utilization"]["memory"].is_number())
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
fn docker_restart_of_the_engine_and_of_the_watcher() {
    let Some(mut engine) = Engine::start() else { return };
    let balancer = three(&engine);
    let load = balancer.load();
    engine.stop_daemon();
    until("the engine is missed", || balancer.discovery()["connected"] == false);
    assert_eq!(balancer.states("web"), ["healthy"; 3]);
    // One dies while the engine is away: the kernel tells.
    let pid = pids_with_env("REPLICA=web2");
    signal(pid[0], "KILL");
    until("web2 is out", || balancer.states("web").len() == 2);
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
        let labels = labels.each_ref().map(String::as_str);
        let options = ["--network", "small", "--ip", address];
        // A busy engine gives a name and an address back some time after it said so.
        until(&format!("{service} runs at {address}"), || {
            let ran = engine.try_run_with(service, &labels, &options);
            let Err(error) = ran else { return true };
            eprintln!("docker run {service}: {error}");
            let _ = engine.try_docker(&["rm", "-f", service]);
            false
        });
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
                    let response = Client::exchange(address, request);
                    let who = match response.as_ref().map(|response| response.status) {
                        Ok(200) => response.unwrap().text().split(' ').next().unwrap().to_owned(),
                        // Nobody serves it at this moment. Asked without a pause, connections of
                        // which nothing comes keep the kernel from making those of a container.
                        Ok(404 | 502 | 503 | 504) | Err(_) => {
                            pause();
                            continue;
                        }
                        Ok(status) => panic!("{status}"),
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

/// A TCP listener that the configuration leaves open goes to the service whose label asks for it.
#[test]
fn docker_a_tcp_service_by_label() {
    let Some(engine) = Engine::start() else { return };
    let listeners = "  raw: { bind: 127.0.0.1:0, protocol: tcp }\n";
    let balancer = Balancer::start_with(&engine, "traefik_labels: true", listeners);
    let address = balancer.program.listener("raw")["bind"].as_str().unwrap().to_owned();
    let address = address.parse().unwrap();
    let ours = ["evenkeel.protocol=tcp"];
    // The same in Traefik's words: the entry point is the listener of that name.
    let theirs = [
        "traefik.tcp.routers.r.rule=HostSNI(`*`)",
        "traefik.tcp.routers.r.entrypoints=raw",
        "traefik.tcp.services.r.loadbalancer.server.port=5000",
        "traefik.tcp.services.r.loadbalancer.terminationdelay=100",
    ];
    for (name, labels) in [("stream", &ours[..]), ("router", &theirs)] {
        engine.run(name, labels);
        balancer.wait_healthy(name, 1);
        until("it answers", || {
            let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let answer = Client::exchange(address, request);
            answer.is_ok_and(|r| r.text().starts_with(&format!("{name} ")))
        });
        if name == "router" {
            let notes = balancer.discovery()["notes"].to_string();
            assert!(notes.contains("terminationdelay is not understood"), "{notes}");
        }
        engine.docker(&["rm", "-f", name]);
        until("the service is gone", || balancer.states(name).is_empty());
    }
}

/// The same interface, offered by Podman.
#[test]
fn docker_podman_offers_the_same() {
    let Some(engine) = Engine::start_podman() else { return };
    let mut balancer = three(&engine);
    assert!(balancer.discovery()["engine"].as_str().unwrap().starts_with("Podman "));
    let load = balancer.load();
    let slowest = assert_prompt(whatever_happens(&engine, &balancer));
    engine.docker(&["rm", "-f", "web2"]);
    balancer.wait_healthy("web", 2);
    load.stop().assert_perfect(&format!("Podman: the same; traffic within {slowest:?}"));
    until("statistics", || {
        balancer.discovery()["usage"].as_array().is_some_and(|usage| {
            usage.len() == 2 && usage.iter().all(|u| u["memory_bytes"].as_u64() > Some(0))
        })
    });
    balancer.program.signal("TERM");
    balancer.program.wait_exit();
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

    let Some(engine) = Engine::start() else { return };
    // The port is the program's own choice: somebody else on this machine may have it.
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    if !wait_free(address) {
        return skip("a bare `providers: { docker: {} }`", "port 8080 is taken");
    }
    let text = format!("providers: {{ docker: {{ socket: {} }} }}\n", engine.socket());
    fs::write(&file, text).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["run", "-c"]).arg(&file);
    // Without an `admin` section nothing listens for it.
    let mut program = Evenkeel::start(command, address, folder);
    let answer = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Client::exchange(address, request).ok().map(|answer| (answer.status, answer.text()))
    };
    until("a listener on port 8080", || answer("hello.localhost", "/").is_some());
    assert_eq!(answer("hello.localhost", "/").unwrap().0, 404);
    engine.run("hello", &["evenkeel.port=5000"]);
    engine.run("shop", &["evenkeel.port=5000", "evenkeel.path=/shop/*"]);
    engine.run("alone", &[]);
    let from = |host: &str, path: &str, name: &str| {
        until(&format!("{name} answers {host}{path}; {}", program.log()), || {
            answer(host, path).is_some_and(|(status, text)| {
                status == 200 && text.starts_with(&format!("{name} "))
            })
        });
    };
    from("hello.localhost", "/", "hello");
    from("hello.localhost:8080", "/any/path", "hello");
    from("example.org", "/shop/1", "shop");
    assert_eq!(answer("example.org", "/").unwrap().0, 404);
    assert_eq!(answer("alone.localhost", "/").unwrap().0, 404, "it has no label of ours");
    engine.docker(&["rm", "-f", "hello"]);
    until("the route is gone", || answer("hello.localhost", "/").is_some_and(|a| a.0 == 404));
    program.signal("TERM");
    assert_eq!(program.wait_exit(), Some(0));
}

/// Tests of another checkout may have it for a while.
fn wait_free(address: SocketAddr) -> bool {
    let begun = Instant::now();
    while TcpListener::bind(("0.0.0.0", address.port())).is_err() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        pause();
    }
    true
}
