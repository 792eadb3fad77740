//! Values that must be found nowhere but where a test put them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A value that nothing else contains.
pub(super) fn canary() -> String {
    format!("canary-{}", uuid::Uuid::new_v4().simple())
}

/// The files below a folder that contain a value, as it is or as basic authentication has it. `placed` are the files of the test.
pub(super) fn files_with(folder: &Path, value: &str, placed: &[PathBuf]) -> Vec<PathBuf> {
    let forms = [
        value.to_owned(),
        STANDARD.encode(value),
        STANDARD.encode(format!("ops:{value}")),
    ];
    let (mut found, mut folders, mut n_files) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !placed.contains(&path) {
                n_files += 1;
                let content = std::fs::read(&path).unwrap_or_default();
                let has = |form: &String| {
                    content
                        .windows(form.len())
                        .any(|window| window == form.as_bytes())
                };
                if forms.iter().any(has) {
                    found.push(path);
                }
            }
        }
    }
    assert!(n_files > 0, "nothing was searched");
    found
}

#[test]
fn a_value_is_found_in_each_form_and_not_where_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let value = canary();
    let write = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    };
    let placed = write("token", value.clone());
    let plain = write("deep/log", format!("x {value} y"));
    let basic = write("db", STANDARD.encode(format!("ops:{value}")));
    let mut found = files_with(folder.path(), &value, &[placed]);
    found.sort();
    assert_eq!(found, [basic, plain]);
}
