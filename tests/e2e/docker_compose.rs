//! Compose files scaled up and down under load, and the examples with containers.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::harness::balancer::assert_prompt;
use super::harness::engine::{ECHO, Engine, copy_program};
use super::harness::peer::{find, skip};
use super::harness::program::Folder;
use super::harness::{Balancer, Client, Evenkeel, LOAD_SECONDS, Wrk, free_port, until};

/// `docker-compose up --scale SERVICE=3`, then `=1`, so many times; how long the slowest new
/// replica waited from its health check to its first request.
fn scale(
    engine: &Engine,
    folder: &Path,
    balancer: &Balancer,
    (compose_service, service): (&str, &str),
    rounds: usize,
) -> Duration {
    let mut times = Vec::new();
    for _ in 0..rounds {
        for count in [3, 1] {
            let scale = format!("{compose_service}={count}");
            engine.compose(folder, &["up", "-d", "--scale", &scale]);
            balancer.wait_healthy(service, count);
            times.push(balancer.wait_serving(service, count));
        }
    }
    assert_prompt(times)
}

/// The echo server scaled under load.
fn scale_echo(rounds: usize) {
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
    let slowest = scale(&engine, &folder.0, &balancer, ("app", "app"), rounds);
    load.stop().assert_perfect(&format!(
        "docker-compose up --scale app=3, then =1, {rounds} times, traffic within {slowest:?}"
    ));
    engine.compose(&folder.0, &["down"]);
    until("nobody", || balancer.states("app").is_empty());
}

#[test]
fn docker_compose_scales_under_load() {
    scale_echo(3);
}

#[cfg(feature = "soak")]
#[test]
fn soak_docker_compose_scales_under_load_twenty_times() {
    scale_echo(20);
}

/// The Flask and Redis of tutorials, scaled under load.
fn scale_flask(rounds: usize) {
    let Some(example) = Example::start("examples/compose-flask") else { return };
    example.engine.compose(&example.folder.0, &["up", "-d"]);
    let balancer = example.balance();
    balancer.wait_healthy("flask", 1);
    assert!(Client::get(balancer.address, "/").text().contains(": seen "));
    let load = balancer.load();
    let slowest = scale(&example.engine, &example.folder.0, &balancer, ("web", "flask"), rounds);
    load.stop().assert_perfect(&format!(
        "examples/compose-flask: --scale web=3, then =1, {rounds} times, traffic within {slowest:?}"
    ));
    example.engine.compose(&example.folder.0, &["down"]);
}

#[test]
fn docker_example_with_flask_and_redis() {
    scale_flask(2);
}

#[cfg(feature = "soak")]
#[test]
fn soak_docker_example_with_flask_and_redis_twenty_times() {
    scale_flask(20);
}

/// As its README says, with an image made of this machine's programs: nothing can be pulled where
/// these tests run.
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
    scale(&example.engine, &example.folder.0, &balancer, ("shop", "shop"), 2);
    load.stop().assert_perfect("examples/compose-labels, scaled");
    example.engine.compose(&example.folder.0, &["down"]);
    until("routes and services are gone", || {
        Client::get(balancer.address, "/").status == 404 && balancer.states("shop").is_empty()
    });
}

pub struct Example {
    pub engine: Engine,
    pub folder: Folder,
}

impl Example {
    pub fn start(example: &str) -> Option<Example> {
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
