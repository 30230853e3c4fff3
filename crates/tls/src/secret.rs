//! Secrets by which we are known to others: written out, or held by a file.

use std::path::Path;

use model::spec::SecretSpec;

/// Of a file with a secret, in bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// The text of a secret, without white space around it; relative paths count from `directory`.
/// An error says which file it is about, and nothing of what it holds.
pub fn read_secret(secret: &SecretSpec, directory: &Path) -> Result<String, String> {
    let text = match secret {
        SecretSpec::Text(text) => text.clone(),
        SecretSpec::File(path) => {
            let path = directory.join(path);
            let wrong = |error: &dyn std::fmt::Display| {
                format!("cannot read the secret in {}: {error}", path.display())
            };
            let size = std::fs::metadata(&path).map_err(|error| wrong(&error))?.len();
            if size > FILE_BYTES_MAX {
                return Err(wrong(&format!("it has more than {FILE_BYTES_MAX} bytes")));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
            text.trim().to_owned()
        }
    };
    if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("a secret is of visible ASCII characters".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file() {
        let folder = std::env::temp_dir().join(format!("tls-secret-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), "s3cret\n").unwrap();
        std::fs::write(folder.join("empty"), "\n").unwrap();
        let read = |file: &str| read_secret(&SecretSpec::File(file.into()), &folder);
        assert_eq!(read("token").unwrap(), "s3cret");
        assert!(read("empty").unwrap_err().contains("visible"));
        assert!(read("none").unwrap_err().contains("none"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
