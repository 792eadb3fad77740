//! Every public function of the store is called by the contract: nothing else checks its SQL before it runs.

use std::collections::BTreeSet;
use std::path::Path;

/// Public functions here run no SQL; they have tests of their own.
const NOT_SQL: &[&str] = &["config.rs", "databases.rs"];

#[test]
fn every_function_of_the_store_is_in_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut contract = String::new();
    for (_, text) in sources(&root.join("store")) {
        contract.push_str(&text);
    }
    let mut missing = BTreeSet::new();
    let mut n_functions = 0;
    for (file, text) in sources(&root.join("../host/store/src")) {
        if NOT_SQL.contains(&file.as_str()) {
            continue;
        }
        for name in public_functions(&text) {
            n_functions += 1;
            if !contract.contains(&format!(".{name}(")) && !contract.contains(&format!("::{name}("))
            {
                missing.insert(format!("{file}: {name}"));
            }
        }
    }
    assert!(
        n_functions > 80,
        "found only {n_functions} functions: is this the right folder?"
    );
    assert!(
        missing.is_empty(),
        "call these in tests/store: {missing:#?}"
    );
}

fn public_functions(text: &str) -> Vec<&str> {
    let starts = text.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("pub async fn ")
            .or_else(|| line.strip_prefix("pub fn "))
    });
    starts
        .filter_map(|rest| rest.split(['(', '<']).next())
        .collect()
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let rust = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    rust.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    })
    .collect()
}
