//! What tests leave behind: processes, temporary files, and databases on the shared server.
//!
//! Everything that the tests start carries a mark in its environment, and all their temporary files lie in one folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::run::quiet;
use crate::servers;

/// The mark of a run: the folder of its files.
pub(crate) const RUN_FOLDER: &str = "BELLWETHER_TEST_RUN_FOLDER";
/// The process with which the shared servers end.
pub(crate) const RUN_PROCESS: &str = "BELLWETHER_TEST_RUN_PROCESS";

/// How long something that was just told to end may take.
const GRACE: Duration = Duration::from_secs(5);

/// One run of the tests.
pub(crate) struct Run {
    folder: PathBuf,
}

impl Run {
    /// Makes the folder for everything of this run. It is not below the target folder, because PostgreSQL runs as another
    /// user, who must be able to enter it, and because names of sockets are short.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        let name = format!("bellwether-test-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let run = Self { folder };
        fs::create_dir_all(run.temporary()).context("cannot make a temporary folder")?;
        for folder in [run.folder.clone(), run.temporary()] {
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder, open)
                .context("cannot open a temporary folder to PostgreSQL's user")?;
        }
        Ok(run)
    }

    /// Marks everything that a command starts.
    pub(crate) fn mark(&self, command: &mut Command) {
        command.env(RUN_FOLDER, &self.folder);
        command.env(RUN_PROCESS, std::process::id().to_string());
        command.env("TMPDIR", self.temporary());
    }

    /// Lists what is left, and removes it.
    pub(crate) fn end(self) -> anyhow::Result<Vec<String>> {
        let processes = self.processes_after_grace();
        let mut left: Vec<String> = Vec::new();
        for (pid, command) in &processes {
            left.push(format!("process {pid}: {command}"));
        }
        for entry in fs::read_dir(self.temporary())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let file = format!("file {}{}", path.display(), content(&path));
            // A program that a test kills can't remove its temporary files.
            if entry.file_name().to_string_lossy().starts_with(".tmp") {
                eprintln!("note: a killed program left behind: {file}");
            } else {
                left.push(file);
            }
        }
        for database in servers::databases(&self.folder) {
            left.push(format!("database {database}"));
        }
        for pid in processes.keys() {
            let mut kill = Command::new("sh");
            kill.args(["-c", &format!("kill -KILL {pid}")]);
            quiet(kill);
        }
        servers::stop(&self.folder);
        fs::remove_dir_all(&self.folder).context("cannot remove the temporary folder")?;
        Ok(left)
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    fn processes_after_grace(&self) -> BTreeMap<u32, String> {
        let begun = Instant::now();
        loop {
            let processes = self.processes();
            if processes.is_empty() || begun.elapsed() > GRACE {
                return processes;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Living processes that carry the mark, or work with the temporary files.
    fn processes(&self) -> BTreeMap<u32, String> {
        let mark = format!("{RUN_FOLDER}={}", self.folder.display());
        let temporary = self.temporary();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut found = BTreeMap::new();
        for pid in pids.filter(|pid: &u32| *pid != std::process::id()) {
            let process = Path::new("/proc").join(pid.to_string());
            let line = words(&process.join("cmdline")).join(" ");
            let is_marked = words(&process.join("environ")).contains(&mark);
            let works_there = line.contains(&*temporary.to_string_lossy())
                || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&temporary));
            // A process without a command line has ended, and waits for its parent.
            if !line.is_empty() && (is_marked || works_there) {
                found.insert(pid, line);
            }
        }
        found
    }
}

/// What lies in a folder: it shows which test made it.
fn content(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.take(10).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(", which contains {}", names.join(", "))
}

/// The words of a file that ends each with a zero byte.
fn words(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0);
    let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(|word| !word.is_empty()).collect()
}
