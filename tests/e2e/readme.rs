//! What README.md says holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::peer::find;
use super::harness::program::BINARY;
use super::harness::{Quickstart, until};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks of a language, each with the line before it.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(&'a str, &'a str)> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    for (start, _) in text.match_indices(&fence) {
        let body = &text[start + fence.len()..];
        let end = body.find("```").expect("the fence closes");
        found.push((text[..start].lines().next_back().unwrap_or(""), &body[..end]));
    }
    found
}

/// The block marked as tested, step by step, in a shell, against a quickstart on other ports.
#[test]
fn the_commands_of_the_readme_do_what_they_say() {
    if find("curl").is_none() || find("pgrep").is_none() {
        return;
    }
    let text = readme();
    let start = "cargo run --release -- run -c examples/quickstart/evenkeel.yaml\n";
    assert!(blocks(&text, "sh").iter().any(|(_, block)| *block == start), "the first command");
    let block = blocks(&text, "sh").into_iter().find(|(before, _)| *before == "<!-- tested -->");
    let (_, block) = block.expect("the block that is tested");
    let mut steps = block.split("\n\n");
    let path = steps.next().expect("where the program is");
    assert_eq!(path, "export PATH=\"$PWD/target/release:$PATH\"");

    let quickstart = Quickstart::start();
    let folder = Path::new(BINARY).parent().unwrap().display();
    let mut answers = Vec::new();
    for step in steps {
        // Other tests have replicas of that name too: only those of this balancer are looked at.
        let parent = format!("pgrep -P {} -o -f", quickstart.program.child.id());
        let script = step
            .replace("127.0.0.1:8080", &quickstart.http.to_string())
            .replace("127.0.0.1:8081", &quickstart.tcp.to_string())
            .replace("pgrep -o -f", &parent);
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("PATH=\"{folder}:$PATH\"\n{script}")])
            .env("EVENKEEL_ADMIN", quickstart.program.admin.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{step}\n{output:?}");
        answers.push(String::from_utf8(output.stdout).unwrap());
    }

    let [round, killed, scaled] = answers.try_into().expect("three steps");
    for (name, count) in [("web-1 GET /", 3), ("web-2 GET /", 3), ("web-3 GET /", 3)] {
        assert_eq!(round.lines().filter(|line| *line == name).count(), count, "{round}");
    }
    assert_eq!(killed.lines().filter(|line| line.ends_with(" GET /")).count(), 6, "{killed}");
    assert!(scaled.contains("service web: 6 replicas wanted\n"), "{scaled}");
    assert!(scaled.contains("service web: 2 replicas wanted\n"), "{scaled}");
    assert!(scaled.contains("round_robin"), "{scaled}");
    until("the restart of the killed one", || quickstart.program.log().contains("ended by itself"));
    quickstart.wait_replicas(2);
}

#[test]
fn every_whole_configuration_that_is_shown_is_a_good_one() {
    let folder = super::harness::program::Folder::new();
    let files = ["README.md", "docs/configuration.md"];
    for (number, file) in files.iter().enumerate() {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let configurations: Vec<_> =
            blocks(&text, "yaml").into_iter().map(|(_, yaml)| yaml).collect();
        assert!(!configurations.is_empty(), "{file}");
        for yaml in configurations {
            let path = folder.join(&format!("{number}.yaml"));
            fs::write(&path, yaml).unwrap();
            let output = Command::new(BINARY).args(["check", "-c"]).arg(&path).output().unwrap();
            assert!(output.status.success(), "{file}:\n{yaml}\n{output:?}");
            assert!(output.stderr.is_empty(), "{file}:\n{yaml}\n{output:?}");
        }
    }
}

/// A claim names its tests; each of them is somewhere in the repository.
#[test]
fn every_test_that_the_readme_names_is_there() {
    let text = readme();
    let table = text.split("## Claims and their tests").nth(1).expect("the claims");
    let mut sources = String::new();
    for folder in ["tests", "crates"] {
        gather(&root().join(folder), &mut sources);
    }
    let mut named = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.rsplit(" | ").next().unwrap();
        for test in tests.split('`').filter(|word| word.contains('_')) {
            assert!(sources.contains(&format!("fn {test}()")), "there is no test {test}");
            named += 1;
        }
    }
    assert!(named >= 20, "{named}");
}

fn gather(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// A link within the documents leads to a file, and to a heading of it if it names one.
#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut documents = Vec::new();
    gather_documents(&root(), &mut documents);
    let mut lost = Vec::new();
    let mut links = 0;
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let leads = path.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&path).unwrap()).iter().any(|a| a == anchor));
            if !leads {
                lost.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(links > 100, "{links}");
}

/// Every Markdown file, apart from what builds and checkouts leave behind.
fn gather_documents(folder: &Path, documents: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && !["target", "corpus", "node_modules"].contains(&&*name) {
                gather_documents(&path, documents);
            }
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
}

/// Where links into a document may lead, as GitHub names its headings: in small letters, without
/// punctuation, a hyphen for each space; what was there before gets a number.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#').strip_prefix(' ');
        let Some(heading) = heading.filter(|_| line.starts_with('#') && !is_code) else { continue };
        let anchor: String = without_targets(heading)
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let before = anchors.iter().filter(|a| **a == anchor).count();
        let numbered = (before > 0).then(|| format!("{anchor}-{before}"));
        anchors.push(anchor);
        anchors.extend(numbered);
    }
    anchors
}

/// `[text](target)` as `text`.
fn without_targets(heading: &str) -> String {
    let mut parts = heading.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    text
}

#[test]
fn headings_are_named_as_github_names_them() {
    let text = "# The `run` verb: one, two & three\n## A\n```sh\n# no heading\n```\n## A\n\
                ### [Seen](there.md#x) and under_score\n#hash\n";
    let expected = ["the-run-verb-one-two--three", "a", "a", "a-1", "seen-and-under_score"];
    assert_eq!(anchors(text), expected);
}
