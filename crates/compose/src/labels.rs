//! Docker Compose's own labels and names, so that each finds what the other has made.

use std::collections::BTreeMap;

use crate::project::{Project, Service};

pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";
pub const NUMBER: &str = "com.docker.compose.container-number";
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
pub const WORKING_DIRECTORY: &str = "com.docker.compose.project.working_dir";
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
pub const VERSION: &str = "com.docker.compose.version";
pub const NETWORK: &str = "com.docker.compose.network";
pub const VOLUME: &str = "com.docker.compose.volume";

/// As Docker Compose writes it for a container that is none of `run`.
pub const NOT_ONE_OFF: &str = "False";

/// The specification's version that names and labels follow.
const FOLLOWED: &str = "2";

/// The labels of a container.
pub fn of_container(
    project: &Project,
    service: &Service,
    number: u32,
    hash: &str,
) -> BTreeMap<String, String> {
    let files: Vec<String> = project.files.iter().map(|f| f.display().to_string()).collect();
    let mut labels = service.labels.clone();
    let own = [
        (PROJECT, project.name.clone()),
        (SERVICE, service.name.clone()),
        (NUMBER, number.to_string()),
        (CONFIG_HASH, hash.to_owned()),
        (ONE_OFF, NOT_ONE_OFF.into()),
        (WORKING_DIRECTORY, project.directory.display().to_string()),
        (CONFIG_FILES, files.join(",")),
        (VERSION, FOLLOWED.into()),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    labels
}

/// `PROJECT-SERVICE-NUMBER`, unless the file names it.
pub fn container_name(project: &Project, service: &Service, number: u32) -> String {
    match &service.container_name {
        Some(name) => name.clone(),
        None => format!("{}-{}-{number}", project.name, service.name),
    }
}
