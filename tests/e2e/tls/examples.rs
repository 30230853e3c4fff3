//! `examples/tls` and `examples/acme`, as they are, on ports of their own.

use std::net::{IpAddr, Ipv4Addr};

use super::super::harness::pebble::Options;
use super::super::harness::{Client, Evenkeel, Pebble, until, within};
use super::*;

/// The configuration of an example, with what stands in it replaced.
fn example(name: &str, replaced: &[(&str, &str)]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let mut text = std::fs::read_to_string(root.join("evenkeel.yaml")).unwrap();
    for (from, to) in [("127.0.0.1:9900", "ADMIN")].iter().chain(replaced) {
        assert!(text.contains(from), "{name} has {from}");
        text = text.replace(from, to);
    }
    text
}

#[test]
fn the_one_of_development_serves_and_redirects() {
    let (plain, web) = (local(), local());
    let text = example(
        "tls",
        &[
            ("127.0.0.1:8080", &plain.to_string()),
            ("127.0.0.1:8443", &web.to_string()),
            ("localhost:8443", &format!("localhost:{}", web.port())),
        ],
    );
    let folder = Folder::new();
    let admin = local();
    std::fs::write(folder.join("evenkeel.yaml"), text.replace("ADMIN", &admin.to_string()))
        .unwrap();
    let mut command = Command::new(super::super::harness::program::BINARY);
    command.args(["run", "-c"]).arg(folder.join("evenkeel.yaml"));
    command.env("XDG_DATA_HOME", folder.join("data"));
    let program = Evenkeel::start(command, admin, folder);
    program.wait_ready();
    let ca = program.folder.join("data/evenkeel/ca/ca.pem").display().to_string();
    let asked = |url: &str| {
        let output =
            Command::new("curl").args(["-sSL", "-i", "--cacert", &ca, url]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = asked(&format!("http://localhost:{}/there", plain.port()));
    assert!(said.starts_with("HTTP/1.1 308") && said.contains("HTTP/2 200"), "{said}");
    assert!(said.contains("strict-transport-security: max-age=86400"), "{said}");
    let (_, status) = program.verb(&["status"]);
    assert!(status.contains("self_signed  in 396 days"), "{status}");
}

#[test]
fn the_one_of_a_ca_gets_its_certificate() {
    let (plain, web) = (local(), local());
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some(pebble) = Pebble::start(Options::new(plain, web), ip) else { return };
    let text = example(
        "acme",
        &[
            ("\":80\"", &plain.to_string()),
            ("\":443\"", &web.to_string()),
            (
                "staging: true ",
                &format!(
                    "directory: {}\n        ca: {} ",
                    pebble.directory(),
                    pebble.ca().display()
                ),
            ),
        ],
    );
    let program = Evenkeel::run(&text);
    let status = || program.verb(&["status"]).1;
    within(std::time::Duration::from_secs(60), "the certificate", || {
        status().contains("shop.example.com  acme    in 90 days")
    });
    let root = pebble.root().display().to_string();
    let said = curl(&root, "shop.example.com", web, "/", &[]).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    until("the redirect", || Client::get(plain, "/x").status == 308);
    assert!(program.folder.join("state").is_dir(), "beside the file, as it says");
}
