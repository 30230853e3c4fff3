//! Images built here, pushed to a private registry, and rolled out on an engine that is reached by
//! TCP or SSH.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::harness::engine::{Engine, copy_program};
use super::harness::peer::find;
use super::harness::program::{BINARY, Folder};
use super::harness::site::Site;
use super::harness::{Client, free_port, until};

/// Debian's registry, with one user: `shop`, `secret`.
struct Registry {
    address: SocketAddr,
    child: Child,
}

/// bcrypt of `secret` (`htpasswd -Bbn shop secret`).
const PASSWORDS: &str = "shop:$2b$04$ZhopEQxKSB2/aPB58T8wLuBiQLgHQ25KBG8Fv3TrbW/C.U6HvYbw6\n";
/// `shop:secret` in base64, as `docker login` writes it.
const LOGIN: &str = "c2hvcDpzZWNyZXQ=";

impl Registry {
    fn start(folder: &Folder) -> Option<Registry> {
        let program = find("docker-registry")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = fs::read_to_string(folder.join("registry.yml")).unwrap();
        fs::write(
            folder.join("registry.yml"),
            text.replace("127.0.0.1:5555", &address.to_string()),
        )
        .unwrap();
        fs::write(folder.join("htpasswd"), PASSWORDS).unwrap();
        let mut child = Command::new(program)
            .args(["serve", "registry.yml"])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the registry", || {
            assert!(child.try_wait().unwrap().is_none(), "the registry has ended");
            Client::try_get(address, "/v2/").is_some_and(|response| response.status == 401)
        });
        Some(Registry { address, child })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries connections of a TCP port to the engine's socket, as an engine that listens on both.
fn tcp_of(engine: &Engine) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = engine.socket();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(engine) = UnixStream::connect(&socket) else { return };
            let (from, to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            thread::spawn(move || carry(from, &to, || to.shutdown(Shutdown::Write)));
            thread::spawn(move || carry(engine, &client, || client.shutdown(Shutdown::Write)));
        }
    });
    address
}

fn carry(mut from: impl Read, mut to: impl Write, end: impl Fn() -> io::Result<()>) {
    let _ = io::copy(&mut from, &mut to);
    let _ = end();
}

#[test]
fn compose_example_private_registry() {
    let Some(engine) = Engine::start() else { return };
    let folder = Folder::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/private-registry");
    for file in fs::read_dir(&example).unwrap().flatten() {
        fs::copy(file.path(), folder.join(file.file_name().to_str().unwrap())).unwrap();
    }
    copy_program(BINARY, &folder.join("root"), "/evenkeel");
    let Some(registry) = Registry::start(&folder) else { return };
    let file = fs::read_to_string(folder.join("compose.yaml")).unwrap();
    let file = file
        .replace("8080:5000", "PORT:5000")
        .replace("127.0.0.1:5555", &registry.address.to_string());
    let mut site = Site::in_folder(&engine, folder, &file);
    let image = |tag: &str| format!("{}/shop/web:{tag}", registry.address);

    // Without a login it is refused, and that is said.
    let said = site.try_run(&["push"]);
    assert!(!said.ok && said.err.contains("cannot push"), "{said:?}");
    let login = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{LOGIN}\"}}}}}}", registry.address);
    fs::create_dir_all(site.folder.join("docker")).unwrap();
    fs::write(site.folder.join("docker/config.json"), login).unwrap();
    let said = site.try_run(&["push"]);
    assert!(said.ok && said.err.contains(": Pushed"), "{said:?}");
    engine.docker(&["tag", &image("1"), &image("2")]);
    let mut push = site.command(&["push"]);
    assert!(push.env("TAG", "2").stderr(Stdio::null()).status().unwrap().success());
    engine.docker(&["rmi", &image("1"), &image("2")]);

    // The engine is asked over TCP, has no image, pulls it, and publishes the port itself.
    site.write(&file.replace("    build: .\n", ""));
    site.at_host(&format!("tcp://{}", tcp_of(&engine)));
    let said = site.try_run(&["up", "-d"]);
    assert!(said.ok && said.err.contains(": Pull complete"), "{said:?}");
    assert!(site.balancers().is_empty(), "it could not reach containers elsewhere");
    let answers =
        || Client::try_get(site.address, "/").is_some_and(|r| r.text().starts_with("shop "));
    until("an answer", answers);
    let before = site.ids("web");
    site.run(&["deploy", "web", "--image", &image("2"), "--watch", "1s"]);
    assert_ne!(site.ids("web"), before);
    until("an answer of the new version", answers);

    // The same by SSH, whose client is one of the test's own.
    let program = site.folder.join("ssh");
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = \"-l me -p 22 -o ConnectTimeout=30 -T -- elsewhere docker system \
         dial-stdio\" ] || exit 9\nDOCKER_HOST=unix://{} exec docker system dial-stdio\n",
        engine.socket()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    site.at_host("ssh://me@elsewhere:22");
    let path = format!("{}:{}", site.folder.0.display(), std::env::var("PATH").unwrap());
    let output = site.command(&["down"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(engine.docker(&["ps", "-aq"]), "");
    assert!(TcpStream::connect(site.address).is_err());
}
