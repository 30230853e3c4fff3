//! Which Compose file, which project, which engine: what all verbs of Compose files are given.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anstream::eprintln;
use compose::dotenv;
use compose::engine::EngineOptions;
use compose::read::Input;
use compose::registry::Logins;
use compose::{Engine, read};
use config::Source;

use super::{Balancer, Stack};
use crate::control::read_file;
use crate::failure::Failure;

/// In the order of the specification, and docker-compose's own names.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// What Docker Compose would read, too.
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

#[derive(clap::Args)]
pub(crate) struct ComposeFile {
    /// The Compose file; default: compose.yaml or docker-compose.yml here or in a folder above
    #[arg(short, long, value_name = "FILE", env = "COMPOSE_FILE")]
    file: Option<PathBuf>,
    /// The project's name; default: the file's `name`, or its folder
    #[arg(short, long, value_name = "NAME", env = "COMPOSE_PROJECT_NAME")]
    project: Option<String>,
    /// A profile whose services are there, too
    #[arg(long, value_name = "NAME", env = "COMPOSE_PROFILES", value_delimiter = ',')]
    profile: Vec<String>,
    /// The engine: unix:///path, tcp://host:port or ssh://user@host
    #[arg(short = 'H', long, value_name = "ADDRESS", env = "DOCKER_HOST")]
    host: Option<String>,
    /// Address of the balancer's admin API; default: port 9900 of this machine, or a free one
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<std::net::SocketAddr>,
}

impl ComposeFile {
    /// For a verb that has a few of these arguments only.
    pub(crate) fn of(file: PathBuf, project: Option<String>) -> Self {
        let host = std::env::var("DOCKER_HOST").ok();
        Self { file: Some(file), project, profile: Vec::new(), host, admin: None }
    }

    /// Reads the file. `named` are services that the user wants, whatever their profiles.
    pub(crate) fn open(&self, named: &[String]) -> Result<Stack, Failure> {
        let path = self.path()?;
        let text = read_file(&path)?;
        let process: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let environment = with_dotenv(&path, &process)?;
        let shown = path.display().to_string();
        let checked = read::read(&Input {
            source: Source { name: &shown, text: &text },
            path: path.clone(),
            project: self.project.clone().filter(|name| !name.is_empty()),
            environment,
            profiles: self.profile.iter().filter(|p| !p.is_empty()).cloned().collect(),
            named: named.iter().cloned().collect::<BTreeSet<_>>(),
            read_file: &read_bounded,
        });
        let checked = checked.map_err(|defects| {
            eprintln!("{defects}");
            Failure::Said
        })?;
        for warning in &checked.warnings {
            eprintln!("{warning}");
        }
        let options = EngineOptions::read(self.host.as_deref(), &process);
        let engine = Engine::new(options.map_err(Failure::Usage)?);
        let mut project = checked.project;
        if !Stack::is_here(&engine) {
            for service in project.services.values_mut() {
                service.balancing.published_by_engine = true;
            }
        }
        let balancer = Balancer::of(&project, &engine, self.admin)?;
        Ok(Stack { project, engine, balancer, logins: logins(&process)? })
    }

    fn path(&self) -> Result<PathBuf, Failure> {
        let found = match &self.file {
            Some(file) => file.clone(),
            None => search()?,
        };
        let path = found
            .canonicalize()
            .map_err(|error| Failure::Job(format!("cannot read {}: {error}", found.display())))?;
        if self.file.is_none() {
            let folder = path.parent().unwrap_or(Path::new("/"));
            if let Some(name) = OVERRIDES.iter().find(|name| folder.join(name).exists()) {
                eprintln!("warning: {name} is not read; merging of files is not supported");
            }
        }
        Ok(path)
    }
}

fn search() -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::Job(format!("cannot find the current folder: {error}")))?;
    for folder in here.ancestors() {
        for name in NAMES {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    Err(Failure::Usage("there is no compose.yaml here or above; -f FILE names one".into()))
}

/// Variables of `.env` beside the file, under those of the process.
fn with_dotenv(
    file: &Path,
    process: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let path = file.with_file_name(".env");
    let mut variables = match read_bounded(&path) {
        Ok(text) => dotenv::read(&text, process).map_err(|refused| {
            let shown = path.display();
            Failure::Job(format!("{shown}:{}: {}", refused.line, refused.message))
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(Failure::Job(format!("cannot read {}: {error}", path.display()))),
    };
    variables.extend(process.clone());
    Ok(variables)
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    // One byte more than is read, so that a file that is longer is refused.
    let limit = dotenv::TEXT_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn logins(process: &BTreeMap<String, String>) -> Result<Logins, Failure> {
    let folder = match process.get("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => match process.get("HOME") {
            Some(home) => Path::new(home).join(".docker"),
            None => return Ok(Logins::default()),
        },
    };
    let path = folder.join("config.json");
    match read_bounded(&path) {
        Ok(text) => Logins::read(&text)
            .map_err(|error| Failure::Job(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Logins::default()),
        Err(error) => Err(Failure::Job(format!("cannot read {}: {error}", path.display()))),
    }
}
