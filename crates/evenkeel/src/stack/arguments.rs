//! Which Compose file, which project, which engine: what all verbs of Compose files are given.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anstream::eprintln;
use compose::dotenv;
use compose::engine::EngineOptions;
use compose::read::{File, Input};
use compose::registry::Logins;
use compose::{Engine, read};
use config::Source;

use super::{Balancer, Stack};
use crate::control::read_file;
use crate::failure::Failure;

/// In the order of the specification, and docker-compose's own names.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Merged on top of a file that was found, not named.
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// Each has up to 8 MiB.
const FILES_MAX: usize = 16;

#[derive(clap::Args)]
pub(crate) struct ComposeFile {
    /// The Compose file, and further ones that are merged on top of it; default: those that
    /// COMPOSE_FILE names, or compose.yaml or docker-compose.yml here or in a folder above, with
    /// compose.override.yaml beside it
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
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
    pub(crate) fn of(file: Vec<PathBuf>, project: Option<String>) -> Self {
        let host = std::env::var("DOCKER_HOST").ok();
        Self { file, project, profile: Vec::new(), host, admin: None }
    }

    /// Reads the file. `named` are services that the user wants, whatever their profiles.
    pub(crate) fn open(&self, named: &[String]) -> Result<Stack, Failure> {
        let mut paths = self.paths()?.into_iter();
        let path = paths.next().unwrap_or_default();
        let text = read_file(&path)?;
        let further = paths.map(|path| Ok(File { text: read_file(&path)?, path }));
        let further = further.collect::<Result<Vec<_>, Failure>>()?;
        let process: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let environment = with_dotenv(&path, &process)?;
        let shown = path.display().to_string();
        let checked = read::read(&Input {
            source: Source { name: &shown, text: &text },
            path: path.clone(),
            further,
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
        let logins = logins(&process)?;
        Ok(Stack { project, engine, balancer, logins, turn: RefCell::default() })
    }

    /// At least one; absolute.
    fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut named = self.file.clone();
        if named.is_empty() {
            let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            let between = variable("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".into());
            let files = variable("COMPOSE_FILE").unwrap_or_default();
            named.extend(files.split(&between).filter(|file| !file.is_empty()).map(PathBuf::from));
        }
        if named.is_empty() {
            let found = search()?;
            let folder = found.parent().unwrap_or(Path::new("/")).to_owned();
            named.push(found);
            named.extend(OVERRIDES.map(|name| folder.join(name)).into_iter().find(|f| f.is_file()));
        }
        if named.len() > FILES_MAX {
            return Err(Failure::Usage(format!("more than {FILES_MAX} Compose files")));
        }
        let absolute = |file: PathBuf| {
            file.canonicalize()
                .map_err(|error| Failure::Job(format!("cannot read {}: {error}", file.display())))
        };
        named.into_iter().map(absolute).collect()
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
    let limit = config::tree::TEXT_BYTES_MAX as u64 + 1;
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
