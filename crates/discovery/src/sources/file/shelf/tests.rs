use std::collections::BTreeSet;

use super::*;

/// A folder that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("evenkeel-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn replace(&self, name: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.0.join("new"), self.0.join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One address in a line; stands for the reader of `config`, which this crate does not know.
fn lines(name: &str, text: &str, _service: &str) -> Result<Vec<Endpoint>, String> {
    let line = |(at, line): (usize, &str)| {
        let address = line.parse().map_err(|_| format!("{name}:{}:1: no address", at + 1))?;
        Ok(Endpoint::at(address))
    };
    if text.is_empty() {
        return Err(format!("{name}:1:1: empty"));
    }
    text.lines().filter(|line| !line.starts_with('-')).enumerate().map(line).collect()
}

struct Watched {
    shelf: Shelf,
    folder: PathBuf,
}

impl Watched {
    fn new(scratch: &Scratch, path: PathBuf) -> Self {
        Self { shelf: Shelf::new(path, "web".into(), lines), folder: scratch.0.clone() }
    }

    /// Looks until it is settled, and some more; answers all that is told, ports only.
    fn said(&mut self, writing: &[&str]) -> String {
        let writing: BTreeSet<OsString> = writing.iter().map(OsString::from).collect();
        let told = (0..4).flat_map(|_| self.shelf.look(&writing).told);
        let list = |listed: &[crate::Listed]| {
            let port = |listed: &crate::Listed| listed.endpoint.address.port().to_string();
            format!("[{}]", listed.iter().map(port).collect::<Vec<_>>().join(" "))
        };
        let short = |reason: &str| reason.replace(&format!("{}/", self.folder.display()), "");
        let say = |told| match told {
            Told::Endpoints(endpoints) => list(&endpoints),
            Told::Partly { endpoints, reason } => {
                format!("{}, {}", list(&endpoints), short(&reason))
            }
            Told::Lost { reason } => short(&reason),
        };
        told.map(say).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn one_file() {
    let scratch = Scratch::new("shelf-file");
    let mut web = Watched::new(&scratch, scratch.0.join("web.yaml"));
    let gone = "cannot read web.yaml: No such file or directory (os error 2)";
    assert_eq!(web.said(&[]), gone);
    assert_eq!(web.said(&[]), "");
    scratch.write("web.yaml", "127.0.0.1:1\n127.0.0.1:2");
    assert_eq!(web.said(&[]), "[1 2]");
    scratch.replace("web.yaml", "127.0.0.1:2");
    assert_eq!(web.said(&[]), "[2]");
    scratch.replace("web.yaml", "127.0.0.1:2\n127.0.0.1:2\n");
    assert_eq!(web.said(&[]), "", "one place, listed twice");
    scratch.write("web.yaml", "127.0.0.1:3\n127.0.");
    assert_eq!(web.said(&[]), "[2], web.yaml:2:1: no address");
    fs::remove_file(scratch.0.join("web.yaml")).unwrap();
    assert_eq!(web.said(&[]), format!("[2], web.yaml:2:1: no address; {gone}"));
    scratch.write("web.yaml", "");
    assert_eq!(web.said(&[]), "[2], web.yaml:1:1: empty");
    scratch.write("web.yaml", "-");
    assert_eq!(web.said(&[]), "[]", "an explicit answer");
}

#[test]
fn a_writer_that_is_half_way_is_left_to_finish() {
    let scratch = Scratch::new("shelf-half");
    let mut web = Watched::new(&scratch, scratch.0.join("web.yaml"));
    scratch.write("web.yaml", "127.0.0.1:1\n127.0.0.1:2");
    assert_eq!(web.said(&[]), "[1 2]");
    scratch.write("web.yaml", "127.0.0.1:3");
    assert_eq!(web.said(&["web.yaml"]), "");
    scratch.write("web.yaml", "127.0.0.1:3\n127.0.0.1:4");
    assert_eq!(web.said(&["other.yaml"]), "[3 4]");
    // Without a word of who writes, each look finds another length.
    for (length, text) in
        ["127.0.0.1:5", "127.0.0.1:5\n", "127.0.0.1:5\n127.0.0.1:6"].iter().enumerate()
    {
        scratch.write("web.yaml", text);
        let look = web.shelf.look(&BTreeSet::new());
        assert!(look.told.is_none() && !look.settled, "{length}");
    }
    assert_eq!(web.said(&[]), "[5 6]");
}

#[test]
fn a_folder() {
    let scratch = Scratch::new("shelf-folder");
    let mut all = Watched::new(&scratch, scratch.0.clone());
    assert_eq!(all.said(&[]), "[]");
    scratch.write("a.yaml", "127.0.0.1:1\n127.0.0.1:2");
    scratch.write("b.json", "127.0.0.1:2\n127.0.0.1:3");
    scratch.write("c.txt", "127.0.0.1:4");
    scratch.write(".d.yaml", "127.0.0.1:5");
    fs::create_dir(scratch.0.join("e.yaml")).unwrap();
    std::os::unix::fs::symlink(scratch.0.join("nowhere"), scratch.0.join("f.yaml")).unwrap();
    assert_eq!(all.said(&[]), "[1 2 3]");
    scratch.write("b.json", "?");
    assert_eq!(all.said(&[]), "[1 2 3], b.json:1:1: no address");
    scratch.write("a.yaml", "127.0.0.1:1");
    assert_eq!(all.said(&[]), "", "what b said stays");
    fs::remove_file(scratch.0.join("b.json")).unwrap();
    assert_eq!(all.said(&[]), "[1]");
    scratch.write("nowhere", "127.0.0.1:9");
    assert_eq!(all.said(&[]), "[1 9]");
    let away = scratch.0.with_extension("away");
    fs::rename(&scratch.0, &away).unwrap();
    let lost = all.said(&[]);
    assert!(lost.starts_with("[1 9], cannot read "), "{lost}");
    fs::rename(&away, &scratch.0).unwrap();
    assert_eq!(all.said(&[]), "[1 9]");
}
