//! Canaries: secret values of a scene, and the search for them in everything that the scene wrote or answered.
//!
//! A scene gives each secret a value that occurs nowhere else, runs, and then searches folders and answers for all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::bytes::RegexSet;

/// The secrets of a scene.
#[derive(Default)]
pub(crate) struct Canaries(Vec<Canary>);

/// All of them in one search, because some of the files are large.
struct Search<'a> {
    canaries: &'a [Canary],
    any: RegexSet,
}

struct Canary {
    /// What it is, for the failure's message: that must not print the value.
    name: String,
    forms: Vec<Vec<u8>>,
    /// The only files that may contain it.
    places: Vec<PathBuf>,
}

impl Canaries {
    /// A new value for a secret of this name.
    pub(crate) fn make(&mut self, name: &str, places: &[PathBuf]) -> String {
        let value = format!("canary{}", uuid::Uuid::now_v7().simple());
        self.add(name, value.as_bytes(), places);
        value
    }

    /// A secret that has a value already.
    pub(crate) fn add(&mut self, name: &str, value: &[u8], places: &[PathBuf]) {
        assert!(
            value.len() >= 16,
            "{name} is too short to be found by chance"
        );
        self.0.push(Canary {
            name: name.to_owned(),
            forms: forms(value),
            places: places.to_vec(),
        });
    }

    /// Fails if a file below a folder contains a secret in any form, apart from the secret's own places.
    pub(crate) fn are_not_below(&self, folder: &Path) {
        let mut found = Vec::new();
        self.search().below(folder, &mut found);
        assert!(found.is_empty(), "files contain secrets: {found:#?}");
    }

    /// Fails if an answer contains a secret in any form.
    pub(crate) fn are_not_in(&self, answers: &BTreeMap<String, String>) {
        let search = self.search();
        let mut found = Vec::new();
        for (path, answer) in answers {
            let told = search.of(answer.as_bytes()).into_iter();
            found.extend(told.map(|canary| (canary.name.clone(), path.clone())));
        }
        assert!(found.is_empty(), "answers contain secrets: {found:#?}");
    }

    /// Fails unless each secret is in each of its places: a scene that uses a secret nowhere shows nothing.
    pub(crate) fn are_in_use(&self) {
        for canary in &self.0 {
            for place in &canary.places {
                let bytes = std::fs::read(place).unwrap_or_default();
                let found = self.search().of(&bytes).into_iter();
                let names: Vec<&str> = found.map(|found| found.name.as_str()).collect();
                let name = canary.name.as_str();
                let place = place.display();
                assert!(names.contains(&name), "{name} is not in {place}");
            }
        }
    }

    fn search(&self) -> Search<'_> {
        let patterns = self.0.iter().map(|canary| {
            let forms: Vec<String> = canary.forms.iter().map(|form| pattern(form)).collect();
            format!("(?-u){}", forms.join("|"))
        });
        Search {
            canaries: &self.0,
            any: RegexSet::new(patterns).unwrap(),
        }
    }
}

impl<'a> Search<'a> {
    /// The secrets that some bytes contain.
    fn of(&self, bytes: &[u8]) -> Vec<&'a Canary> {
        let found = self.any.matches(bytes);
        found.iter().map(|number| &self.canaries[number]).collect()
    }

    fn below(&self, folder: &Path, found: &mut Vec<(String, PathBuf)>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                self.below(&path, found);
            } else if kind.is_file() {
                // A file that was removed meanwhile contains nothing.
                let bytes = std::fs::read(&path).unwrap_or_default();
                let strange = self.of(&bytes).into_iter();
                let strange = strange.filter(|canary| !canary.places.contains(&path));
                found.extend(strange.map(|canary| (canary.name.clone(), path.clone())));
            }
        }
    }
}

/// A regular expression for these bytes.
fn pattern(form: &[u8]) -> String {
    let bytes = form.iter().map(|byte| format!("\\x{byte:02x}"));
    bytes.collect::<Vec<_>>().concat()
}

/// How a value may be written: as it is, in hexadecimal digits, or in base64 at any place of a longer text.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let hex = hex::encode(value);
    let mut forms = vec![
        value.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for skipped in 0..3 {
        // Three bytes are four characters; those at the ends depend on what lies beside the value.
        let whole = &value[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(STANDARD_NO_PAD.encode(whole).into_bytes());
        forms.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
    }
    forms
}

#[test]
fn a_secret_is_found_in_each_of_its_forms_and_allowed_in_its_places() {
    let folder = tempfile::tempdir().unwrap();
    let mut canaries = Canaries::default();
    let own = folder.path().join("own");
    let secret = canaries.make("a secret", std::slice::from_ref(&own));
    std::fs::write(&own, &secret).unwrap();
    canaries.are_in_use();
    canaries.are_not_below(folder.path());
    let written = [
        format!("password={secret};"),
        format!("{:?}", hex::encode(&secret)),
        STANDARD_NO_PAD.encode(format!("x{secret}")),
        URL_SAFE_NO_PAD.encode(format!("xy{secret}z")),
    ];
    for text in written {
        let answers = BTreeMap::from([("x".to_owned(), text.clone())]);
        let is_found = std::panic::catch_unwind(|| canaries.are_not_in(&answers));
        assert!(is_found.is_err(), "overlooked {text}");
        std::fs::write(folder.path().join("log"), &text).unwrap();
        let is_found = std::panic::catch_unwind(|| canaries.are_not_below(folder.path()));
        assert!(is_found.is_err(), "overlooked {text}");
    }
}
