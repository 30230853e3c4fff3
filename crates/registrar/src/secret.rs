//! Tokens: who may do what.

use std::collections::BTreeMap;
use std::path::Path;

use admin::is_same_secret;
use model::spec::SecretSpec;

/// Of a file with a token, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// The text of a secret; paths count from `directory`.
pub fn read(secret: &SecretSpec, directory: &Path) -> Result<String, String> {
    let text = match secret {
        SecretSpec::Text(text) => text.clone(),
        SecretSpec::File(path) => {
            let path = directory.join(path);
            let wrong = |error: &dyn std::fmt::Display| {
                format!("cannot read the token in {}: {error}", path.display())
            };
            let size = std::fs::metadata(&path).map_err(|error| wrong(&error))?.len();
            if size > FILE_BYTES_MAX {
                return Err(wrong(&format!("it has more than {FILE_BYTES_MAX} bytes")));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
            text.trim().to_owned()
        }
    };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is of visible ASCII characters without spaces".into());
    }
    Ok(text)
}

/// All that a registry knows.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) admin: Option<String>,
    pub(crate) services: BTreeMap<String, String>,
}

impl Tokens {
    /// Without any, everybody may do everything.
    pub(crate) fn are_demanded(&self) -> bool {
        self.admin.is_some() || !self.services.is_empty()
    }

    /// Whether who sent this may deal with the service; `None`: with all of them. Each comparison
    /// takes as long for a nearly right token as for a wrong one.
    pub(crate) fn admit(&self, service: Option<&str>, sent: &[u8]) -> bool {
        let is = |token: &String| is_same_secret(sent, token.as_bytes());
        let admin = self.admin.as_ref().is_some_and(is);
        let own = service.and_then(|service| self.services.get(service)).is_some_and(is);
        admin | own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_a_service_opens_that_service() {
        let tokens = Tokens {
            admin: Some("root".into()),
            services: [("web".to_owned(), "w3b".to_owned())].into(),
        };
        for (service, sent, admitted) in [
            (Some("web"), "w3b", true),
            (Some("web"), "root", true),
            (Some("api"), "root", true),
            (None, "root", true),
            (Some("api"), "w3b", false),
            (None, "w3b", false),
            (Some("web"), "", false),
            (Some("web"), "w3", false),
        ] {
            assert_eq!(tokens.admit(service, sent.as_bytes()), admitted, "{service:?} {sent}");
        }
        assert!(!Tokens::default().are_demanded());
    }

    #[test]
    fn a_token_is_read_from_its_file() {
        let folder = std::env::temp_dir().join(format!("registrar-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), "s3cret\n").unwrap();
        std::fs::write(folder.join("empty"), "\n").unwrap();
        let read = |file: &str| read(&SecretSpec::File(file.into()), &folder);
        assert_eq!(read("token").unwrap(), "s3cret");
        assert!(read("empty").unwrap_err().contains("visible"));
        assert!(read("none").unwrap_err().contains("none"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
