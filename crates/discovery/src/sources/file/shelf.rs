//! The files, as they were last found, and what they say together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::{Endpoint, ServiceName};
use tls::Fingerprint;

use crate::sources::{ENDPOINTS_MAX, ReadList, Told};

/// Files of one folder that are read: as many as are looked at within 10 ms or so.
const FILES_MAX: usize = 10_000;

/// Bytes of one file, as many as a configuration may have.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// How the names of files end that are read in a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

pub(super) struct Shelf {
    path: PathBuf,
    service: ServiceName,
    read: ReadList,
    files: BTreeMap<PathBuf, Known>,
    /// The path could not be looked at, and why.
    lost: Option<String>,
    /// What was told last.
    told: Option<(Option<Vec<Endpoint>>, Option<String>)>,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// What is new.
    pub(super) told: Option<Told>,
    /// Nothing was found that must be looked at again at once.
    pub(super) settled: bool,
}

#[derive(Default)]
struct Known {
    /// As the last look found it; `None`: it was not there.
    seen: Option<Fingerprint>,
    /// Whose text was read last.
    read: Option<Fingerprint>,
    /// What it last said that was understood.
    said: Option<Vec<Endpoint>>,
    /// What is wrong with it since.
    fault: Option<String>,
}

impl Shelf {
    pub(super) fn new(path: PathBuf, service: ServiceName, read: ReadList) -> Self {
        Self { path, service, read, files: BTreeMap::new(), lost: None, told: None }
    }

    /// `writing`: names of files that somebody has not finished writing.
    pub(super) fn look(&mut self, writing: &BTreeSet<OsString>) -> Look {
        let found = match find(&self.path) {
            Ok(found) => found,
            Err(error) => {
                self.lost = Some(format!("cannot read {}: {error}", self.path.display()));
                return Look { told: self.tell(), settled: true };
            }
        };
        self.lost = None;
        let mut settled = true;
        self.files.retain(|path, known| {
            let is_there = found.contains_key(path);
            // It is gone once two looks miss it: some editors delete and write anew.
            let stays = is_there || known.seen.take().is_some();
            settled &= is_there || !stays;
            stays
        });
        for (path, fingerprint) in found {
            let known = self.files.entry(path.clone()).or_default();
            if known.seen.replace(fingerprint) != Some(fingerprint)
                || path.file_name().is_some_and(|name| writing.contains(name))
            {
                settled = false;
            } else if known.read != Some(fingerprint) {
                known.read = Some(fingerprint);
                known.take(read_text(&path).and_then(|text| {
                    (self.read)(&path.display().to_string(), &text, self.service.as_str())
                }));
            }
        }
        let told = if settled { self.tell() } else { None };
        Look { told, settled }
    }

    /// What is new of all the files together.
    fn tell(&mut self) -> Option<Told> {
        let lists: Vec<&Vec<Endpoint>> =
            self.files.values().filter_map(|known| known.said.as_ref()).collect();
        let mut faults: Vec<&str> =
            self.files.values().filter_map(|known| known.fault.as_deref()).collect();
        faults.extend(self.lost.as_deref());
        // Files that were never understood are no answer; that a folder has none is one.
        let mut known = (!lists.is_empty() || faults.is_empty()).then(|| merged(&lists));
        let too_many = format!("there are more than {ENDPOINTS_MAX} endpoints");
        if known.as_ref().is_some_and(|all| all.len() > ENDPOINTS_MAX) {
            faults.push(&too_many);
            known = None;
        }
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        let now = (known, fault);
        if self.told.as_ref() == Some(&now) {
            return None;
        }
        let (known, fault) = self.told.insert(now).clone();
        Told::of(known, fault)
    }
}

impl Known {
    fn take(&mut self, understood: Result<Vec<Endpoint>, String>) {
        match understood {
            Ok(list) => (self.said, self.fault) = (Some(list), None),
            Err(fault) => self.fault = Some(fault),
        }
    }
}

/// The path itself, or what a folder holds: by name, and without hidden files, which is what
/// editors and ConfigMaps leave beside those that are meant.
fn find(path: &Path) -> io::Result<BTreeMap<PathBuf, Fingerprint>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok([(path.to_owned(), Fingerprint::of_metadata(&metadata))].into());
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
        let ending = path.extension().and_then(|ending| ending.to_str());
        if hidden || !ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            continue;
        }
        // One that was removed meanwhile, and a link to nothing, are not there.
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // What cannot be looked at may be there: all stays as it was.
            Err(error) => return Err(error),
        };
        if metadata.is_file() {
            found.insert(path, Fingerprint::of_metadata(&metadata));
        }
        if found.len() > FILES_MAX {
            return Err(io::Error::other(format!("it has more than {FILES_MAX} files")));
        }
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} has more than {} MiB", path.display(), FILE_BYTES_MAX >> 20));
    }
    Ok(text)
}

/// All lists, file by file; of several endpoints with one identity the first counts.
fn merged(lists: &[&Vec<Endpoint>]) -> Vec<Endpoint> {
    let mut seen = BTreeSet::new();
    let all = lists.iter().copied().flatten();
    all.filter(|endpoint| seen.insert(&endpoint.id)).cloned().collect()
}

#[cfg(test)]
mod tests;
