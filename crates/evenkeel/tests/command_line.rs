//! The verbs that need nothing running, through the built program.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

fn evenkeel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(arguments)
        .env_remove("EVENKEEL_ADMIN")
        .env_remove("EVENKEEL_TOKEN")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// A file that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("evenkeel-cli-{}-{}.yaml", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const GOOD: &str = "\
listeners:
  web: { bind: 127.0.0.1:8080, protocol: http, service: web }
  tcp: { bind: 127.0.0.1:8081, protocol: tcp, service: web }
services:
  web: { endpoints: [ 127.0.0.1:5001 ] }
";

#[test]
fn check_says_ok_and_counts() {
    let file = Scratch::new(GOOD);
    let output = evenkeel(&["check", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), format!("{}: ok (2 listeners, 1 service)\n", file.path()));
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_shows_warnings_and_is_content() {
    let file = Scratch::new(&format!("{GOOD}  idle: {{ endpoints: [ ':5002' ] }}\n"));
    let output = evenkeel(&["check", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).ends_with(": ok (2 listeners, 2 services)\n"), "{output:?}");
    assert!(stderr(&output).contains(":6:3: warning:"), "{output:?}");
}

#[test]
fn check_names_the_place_and_the_right_key() {
    let file = Scratch::new(&GOOD.replace("endpoints", "endpionts"));
    let output = evenkeel(&["check", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(stdout(&output), "");
    let message = stderr(&output);
    for part in [
        format!("{}:5:10: error: unknown key `endpionts`", file.path()),
        "  web: { endpionts: [ 127.0.0.1:5001 ] }".to_owned(),
        "^^^^^^^^^".to_owned(),
        "did you mean `endpoints`?".to_owned(),
    ] {
        assert!(message.contains(&part), "{part}\nis not in\n{message}");
    }
}

#[test]
fn a_missing_file_is_a_failed_job() {
    for verb in ["check", "run"] {
        let output = evenkeel(&[verb, "-c", "/nonexistent/evenkeel.yaml"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let message = stderr(&output);
        assert!(message.contains("error: cannot read /nonexistent/evenkeel.yaml"), "{message}");
    }
}

#[test]
fn run_refuses_what_check_refuses_and_taken_addresses() {
    let file = Scratch::new("listeners: 7\n");
    let output = evenkeel(&["run", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains(":1:12: error:"), "{output:?}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = Scratch::new(&GOOD.replace("127.0.0.1:8080", &address));
    let output = evenkeel(&["run", "-c", file.path()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = stderr(&output);
    let expected = format!("error: listener web cannot listen on {address}: ");
    assert!(message.starts_with(&expected) && message.lines().count() == 1, "{message}");
}

#[test]
fn policies_are_listed() {
    let output = evenkeel(&["policies"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    for policy in ["round_robin", "random", "least_request"] {
        assert!(text.lines().any(|line| line == policy), "{policy} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours outside of a terminal: {text:?}");

    let output = evenkeel(&["policies", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let policies = json["policies"].as_array().unwrap();
    let least_request = policies.iter().find(|p| p["name"] == "least_request").unwrap();
    assert_eq!(least_request["options"][0]["name"], "choices", "{json}");
}

#[test]
fn the_schema_is_json_and_knows_the_top_level() {
    let output = evenkeel(&["schema"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["$schema"].is_string(), "{json}");
    for key in ["admin", "listeners", "services"] {
        assert!(json["properties"][key].is_object(), "{key} is not in {json}");
    }
}

#[test]
fn the_committed_manual_is_the_one_that_is_generated() {
    let output = evenkeel(&["schema", "--markdown"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let committed = fs::read_to_string(file).unwrap_or_default();
    assert!(
        stdout(&output) == committed,
        "write it again: cargo run -- schema --markdown > docs/configuration.md"
    );
}

#[test]
fn wrong_usage_has_status_2() {
    for arguments in [
        &["fly"][..],
        &[],
        &["run"],
        &["check"],
        &["scale", "web"],
        &["scale", "web=x"],
        &["drain", "web"],
        &["status", "--admin", "https://127.0.0.1:9900"],
        &["proxy", "--listen", ":8080"],
        &["proxy", "--listen", ":8080", "--to", ":5001", "--policy", "fair"],
    ] {
        let output = evenkeel(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_have_status_0_and_hide_the_watchdog() {
    let output = evenkeel(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("  run  "));
    assert!(!stdout(&output).contains("watchdog"), "{}", stdout(&output));
    assert_eq!(evenkeel(&["--version"]).status.code(), Some(0));
}

#[test]
fn nobody_listening_is_explained() {
    // Bound and dropped: nothing listens there now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = evenkeel(&["status", "--admin", &address]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains(&format!("nothing listens on {address}")), "{output:?}");
}

#[test]
fn the_quickstart_is_a_good_configuration() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/quickstart/evenkeel.yaml");
    let output = evenkeel(&["check", "-c", file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).ends_with("ok (2 listeners, 1 service)\n"), "{output:?}");
    assert_eq!(stderr(&output), "");
}
