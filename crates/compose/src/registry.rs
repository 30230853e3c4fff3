//! Names of images, and who we are to their registries: `~/.docker/config.json`. Pure, but for the
//! helper programs that it may name.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};

/// What the file calls the registry of names without one.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A name taken apart: `registry:5000/team/app:1.2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// With the registry, without tag.
    pub repository: String,
    /// Tag, or digest with its `sha256:`.
    pub tag: String,
    /// Host and port; `None`: Docker Hub.
    pub registry: Option<String>,
}

pub fn image_name(name: &str) -> ImageName {
    let (rest, tag) = match name.split_once('@') {
        // A tag beside a digest says nothing more.
        Some((rest, digest)) => (without_tag(rest).0, digest),
        None => without_tag(name),
    };
    let registry = rest.split_once('/').map(|(first, _)| first);
    let registry = registry.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    ImageName {
        repository: rest.to_owned(),
        tag: tag.to_owned(),
        registry: registry.map(str::to_owned),
    }
}

fn without_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, tag),
        _ => (name, "latest"),
    }
}

/// The file `config.json` of the `docker` command.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    file: Value,
}

impl Logins {
    pub fn read(text: &str) -> Result<Self, String> {
        let file = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self { file })
    }

    /// The header `X-Registry-Auth` for an image; an empty login where the file has none.
    pub fn header(&self, registry: Option<&str>) -> Result<String, String> {
        let key = registry.unwrap_or(DOCKER_HUB);
        let login = self.login(key)?.unwrap_or_else(|| json!({}));
        Ok(URL_SAFE.encode(login.to_string()))
    }

    /// The header `X-Registry-Config` for a build, which may pull from any of them.
    pub fn all(&self) -> String {
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        for key in self.file["auths"].as_object().into_iter().flat_map(Map::keys) {
            // One that cannot be read is of no use to the build, which says so if it needs it.
            if let Ok(Some(login)) = self.login(key) {
                all.insert(key.clone(), login);
            }
        }
        URL_SAFE.encode(json!(all).to_string())
    }

    fn login(&self, key: &str) -> Result<Option<Value>, String> {
        let helper = self.file["credHelpers"][key].as_str().or(self.file["credsStore"].as_str());
        if let Some(helper) = helper
            && let Some(login) = ask_helper(helper, key)?
        {
            return Ok(Some(login));
        }
        let entry = &self.file["auths"];
        let written = [key.to_owned(), format!("https://{key}"), format!("http://{key}")];
        let entry = written.iter().map(|key| &entry[key]).find(|entry| entry.is_object());
        let Some(entry) = entry else { return Ok(None) };
        if let Some(token) = entry["identitytoken"].as_str().filter(|token| !token.is_empty()) {
            return Ok(Some(json!({ "identitytoken": token, "serveraddress": key })));
        }
        let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let wrong = || format!("the login for {key} in config.json cannot be read");
        let text = STANDARD.decode(auth).map_err(|_| wrong())?;
        let text = String::from_utf8(text).map_err(|_| wrong())?;
        let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(wrong)?;
        Ok(Some(json!({ "username": user, "password": password, "serveraddress": key })))
    }
}

/// A program `docker-credential-NAME` that keeps secrets elsewhere: the registry on its input,
/// JSON on its output.
fn ask_helper(name: &str, key: &str) -> Result<Option<Value>, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.chars().all(fits) {
        return Err(format!("{name:?} in config.json is no name of a helper"));
    }
    let program = format!("docker-credential-{name}");
    let wrong = |error: &dyn std::fmt::Display| format!("{program}: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| wrong(&error))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read is one that fails, and says so by its status.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| wrong(&error))?;
    if !output.status.success() {
        // That is how a helper says that it has none.
        return Ok(None);
    }
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| wrong(&error))?;
    let (user, secret) = (&answer["Username"], &answer["Secret"]);
    if user == "<token>" {
        return Ok(Some(json!({ "identitytoken": secret, "serveraddress": key })));
    }
    Ok(Some(json!({ "username": user, "password": secret, "serveraddress": key })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_taken_apart() {
        for (name, repository, tag, registry) in [
            ("redis", "redis", "latest", None),
            ("redis:7", "redis", "7", None),
            ("team/app:1", "team/app", "1", None),
            ("localhost/app", "localhost/app", "latest", Some("localhost")),
            ("registry:5000/app", "registry:5000/app", "latest", Some("registry:5000")),
            ("r.example.com/a/b:c", "r.example.com/a/b", "c", Some("r.example.com")),
            ("app:1@sha256:ab", "app", "sha256:ab", None),
        ] {
            let registry = registry.map(str::to_owned);
            let expected = ImageName { repository: repository.into(), tag: tag.into(), registry };
            assert_eq!(image_name(name), expected, "{name}");
        }
    }

    #[test]
    fn logins_of_the_docker_command() {
        let file = json!({ "auths": {
            "registry:5000": { "auth": STANDARD.encode("me:se:cret") },
            "https://index.docker.io/v1/": { "identitytoken": "t" },
            "broken": { "auth": "!" },
        } });
        let logins = Logins::read(&file.to_string()).unwrap();
        let header = |registry| -> Value {
            let header = URL_SAFE.decode(logins.header(registry).unwrap()).unwrap();
            serde_json::from_slice(&header).unwrap()
        };
        assert_eq!(header(Some("registry:5000"))["password"], "se:cret");
        assert_eq!(header(Some("registry:5000"))["username"], "me");
        assert_eq!(header(None)["identitytoken"], "t");
        assert_eq!(header(Some("other")), json!({}));
        assert!(logins.header(Some("broken")).is_err());
        let all: Value = serde_json::from_slice(&URL_SAFE.decode(logins.all()).unwrap()).unwrap();
        assert_eq!(all.as_object().unwrap().len(), 2);
        assert!(Logins::read("{").is_err());
    }
}
