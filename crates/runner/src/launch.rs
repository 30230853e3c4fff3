use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use model::reason;
use model::spec::RunSpec;
use tokio::process::Command;

use crate::watchdog::this_program;

/// The name under which a configuration means this very program.
const OURSELVES: &str = "evenkeel";

/// What is started: the part of a [`RunSpec`] whose change means that replicas are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    command: Vec<String>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
}

impl Launch {
    pub(crate) fn of(spec: &RunSpec) -> Self {
        Self { command: spec.command.clone(), env: spec.env.clone(), cwd: spec.cwd.clone() }
    }

    /// The command of the replica `name` on `port`.
    pub(crate) fn command(&self, name: &str, port: u16) -> Command {
        let program = self.program();
        let mut command = if program == OURSELVES {
            let mut command = Command::new(this_program());
            command.arg0(OURSELVES);
            command
        } else {
            Command::new(program)
        };
        command.args(self.command.iter().skip(1));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("PORT", port.to_string()).env("REPLICA", name);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::null());
        command
    }

    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Why it could not be started, for a person. The system's error alone does not tell a
    /// missing program from a missing directory or a missing interpreter.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let program = self.program();
        if let Some(cwd) = &self.cwd
            && let Err(error) = std::fs::read_dir(cwd)
        {
            return format!("cannot start {program:?} in {}: {}", cwd.display(), reason(&error));
        }
        let found = self.find();
        let why = match (error.kind(), &found) {
            (io::ErrorKind::NotFound, None) if program.contains('/') => match &self.cwd {
                Some(cwd) if Path::new(program).is_relative() => {
                    format!("there is no such file in {}", cwd.display())
                }
                _ => "there is no such file".to_owned(),
            },
            (io::ErrorKind::NotFound, None) => "there is no such program in PATH".to_owned(),
            (io::ErrorKind::NotFound, Some(file)) => {
                format!(
                    "the interpreter that {} names in its first line is missing",
                    file.display()
                )
            }
            (io::ErrorKind::PermissionDenied, Some(file)) if file.is_dir() => {
                format!("{} is a directory", file.display())
            }
            (io::ErrorKind::PermissionDenied, Some(file)) if !is_executable(file) => {
                format!("{} is not executable (chmod +x?)", file.display())
            }
            _ => reason(error),
        };
        format!("cannot start {program:?}: {why}")
    }

    /// The file that the program's name means, if there is one.
    fn find(&self) -> Option<PathBuf> {
        let program = self.program();
        if program.contains('/') {
            let path = self.cwd.as_deref().unwrap_or(Path::new("")).join(program);
            return path.exists().then_some(path);
        }
        let own = self.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = own.map(|(_, value)| OsStr::new(value).to_owned());
        let path = path.or_else(|| std::env::var_os("PATH"))?;
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn failure(command: &str, cwd: Option<&Path>) -> String {
        let launch = Launch {
            command: vec![command.to_owned()],
            env: Vec::new(),
            cwd: cwd.map(Path::to_owned),
        };
        let error = launch.command("web-1", 1).as_std_mut().spawn().unwrap_err();
        launch.explain(&error)
    }

    #[test]
    fn a_program_that_cannot_be_started_is_named_with_the_reason() {
        let folder = std::env::temp_dir().join(format!("launch-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("plain"), "text").unwrap();
        fs::write(folder.join("script"), "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
        let here = folder.display();
        for (command, cwd, expected) in [
            ("no-such-program", None, "there is no such program in PATH".to_owned()),
            ("/no/such", None, "there is no such file".to_owned()),
            ("./no-such", Some(&*folder), format!("there is no such file in {here}")),
            ("./plain", Some(&*folder), format!("{here}/./plain is not executable (chmod +x?)")),
            ("./sub", Some(&*folder), format!("{here}/./sub is a directory")),
            (
                "./script",
                Some(&*folder),
                format!("the interpreter that {here}/./script names in its first line is missing"),
            ),
        ] {
            assert_eq!(failure(command, cwd), format!("cannot start {command:?}: {expected}"));
        }
        assert_eq!(
            failure("true", Some(&folder.join("gone"))),
            format!("cannot start \"true\" in {here}/gone: No such file or directory")
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
