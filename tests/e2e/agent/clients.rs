//! The clients that we publish, against the running agent.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use agent_client::{Agent, Error, Outcome, Wish};

use crate::e2e::harness::program::Folder;
use crate::e2e::harness::{Evenkeel, free_port, until};

struct Site {
    program: Evenkeel,
    agent: SocketAddr,
    folder: Folder,
    config: String,
}

impl Site {
    fn start() -> Site {
        let folder = Folder::new();
        let agent = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let socket = folder.join("agent.sock");
        let config = format!(
            "agent: {{ bind: {agent}, token: secret, socket: {} }}\n\
             services:\n  web: {{ health: off, endpoints: [ {{ address: :5001, id: a }}, {{ address: :5002, id: b }}, {{ address: :5003, id: c, weight: 0 }} ] }}\n  \
             empty: {{ endpoints: [] }}\n",
            socket.display()
        );
        Site { program: Evenkeel::run(&config), agent, folder, config }
    }
}

#[test]
fn agent_client_in_rust_asks_reports_and_goes_on_alone() {
    let mut site = Site::start();
    let socket = site.folder.join("agent.sock");
    let agents = [Agent::unix(&socket), Agent::tcp(site.agent).with_token("secret")];
    for agent in &agents {
        let pick = agent.pick("web").unwrap();
        let id = pick.endpoint().to_owned();
        assert!(!pick.is_last_known() && [5001, 5002].contains(&pick.address().port()));
        pick.report(Outcome::Success, Some(Duration::from_millis(8))).unwrap();
        assert!(site.program.endpoint("web", &id)["latency_us"].as_u64().unwrap() > 0);
        let wish = Wish { exclude: vec!["a".into()], ..Wish::default() };
        let pick = agent.pick_with("web", &wish).unwrap();
        assert_eq!(pick.endpoint(), "b");
        drop(pick);
        agent.pick("web").unwrap().succeeded().unwrap();
        match agent.pick("nothing") {
            Err(Error::Invalid { status: 404, message }) => assert!(message.contains("there are")),
            other => panic!("{:?}", other.err()),
        }
        match agent.pick("empty") {
            Err(Error::Refused { reason, .. }) => assert_eq!(reason, "no_endpoint"),
            other => panic!("{:?}", other.err()),
        }
        assert_eq!(agent.endpoints("web").unwrap().len(), 3);
    }
    let stranger = Agent::tcp(site.agent).with_token("wrong");
    assert!(matches!(stranger.pick("web"), Err(Error::Invalid { status: 401, .. })));
    let counts = site.program.api("/v1/agent")["agent"]["counts"][0].clone();
    assert_eq!((&counts["outstanding"], &counts["abandoned"]), (&0.into(), &2.into()));
    // Several threads at once.
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let agent = agents[0].clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    agent.pick("web").unwrap().succeeded().unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    site.program.signal("KILL");
    site.program.wait_exit();
    for agent in &agents {
        let mut seen: Vec<u16> = (0..6)
            .map(|_| {
                let pick = agent.pick("web").unwrap();
                assert!(pick.is_last_known());
                let port = pick.address().port();
                pick.succeeded().unwrap();
                port
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [5001, 5001, 5001, 5002, 5002, 5002], "in turn");
        assert!(matches!(agent.pick("empty"), Err(Error::Away(_))));
    }
    // Back again, it is found within a second or so.
    let _again = Evenkeel::run(&site.config);
    for agent in &agents {
        until("the agent to be asked again", || {
            let pick = agent.pick("web").unwrap();
            let asked = !pick.is_last_known();
            pick.succeeded().is_ok() && asked
        });
    }
}

#[test]
fn agent_client_in_python_passes_its_tests() {
    let site = Site::start();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/python");
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "-v", "test_evenkeel_agent"])
        .current_dir(folder)
        .env("AGENT_SOCKET", site.folder.join("agent.sock"))
        .env("AGENT_ADDRESS", site.agent.to_string())
        .env("AGENT_TOKEN", "secret")
        .env("AGENT_PID", site.program.child.id().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A test that finds no agent is left out: here none may be.
    assert!(!said.contains("skipped") && said.contains("OK"), "{said}");
}
