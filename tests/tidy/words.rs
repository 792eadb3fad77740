//! Words that the project does not use any more, each beside the right one: in pages, in messages, and in public names.
//!
//! A folder may keep the number of them that [`ALLOWED`] says, and no fewer, so that the number only falls.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use super::{File, check, files};

/// Patterns of prose, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    (
        r"\b(?:is|are|was|were|be|been|stays?|goes|gone|while|when|busy or) away\b",
        "unavailable",
    ),
    (r"\bby its own looks?\b|\blooks? again and again\b", "polls"),
    (r"\bby (?:itself|themselves)\b", "automatically, or polls"),
    (
        r"\bthe present (?:state|folder|version|time)\b",
        "the current",
    ),
    (r"(?:^|[^{])\bmend(?:s|ed|ing)?\b", "fix"),
    (r"\bwritten down\b", "stored, or recorded"),
    (
        r"\b(?:is|are|was|were|be|been|being|not|never) told\b",
        "is notified",
    ),
    (r"\btell(?:s|ing)? of\b|\btold of\b", "notifies"),
    (
        r"\b(?:goes|go|went|going|gone) on\b",
        "resumes, or continues",
    ),
    (r"\banew\b", "again"),
    (r"\b(?:taken|takes?|took) away\b", "is removed, or removes"),
    (
        r"\btr(?:ies|ied) (?:it |them )?(?:once )?again\b|\bask(?:s|ed) (?:it |them )?again\b",
        "retries",
    ),
    (r"\blook(?:s|ed|ing)? whether\b", "verifies, or checks"),
    (r"\bfinds? (?:its|their) way\b", "finds and authenticates"),
    (r"\bwish(?:es|ed)?\b", "request"),
    (r"\bof (?:its|their) own accord\b", "automatically"),
];

/// Parts of names, and what to call it instead.
const NAME_PARTS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("asked", "request"),
    ("away", "unavailable"),
    ("said", "statement, or output"),
    ("told", "notified"),
    ("wanted", "request"),
    ("wish", "request"),
    ("wished", "request"),
    ("wishes", "requests"),
];

/// Whole names, and what to call it instead.
const NAMES: &[(&str, &str)] = &[
    ("host_id", "machine_id"),
    ("HostId", "MachineId"),
    ("hosts", "machines"),
];

/// How many retired words a folder still has. A number may only fall: lower it when the test says so.
const ALLOWED: &[(&str, usize)] = &[
    ("host/bus", 2),
    ("host/domain", 1),
    ("host/engine", 1),
    ("host/keys", 2),
    ("host/machines", 5),
    ("host/server/src", 14),
    ("host/workflows", 1),
];

/// The folder of a file that [`ALLOWED`] counts in: a crate, a half of the host, or a top folder.
fn folder(path: &str) -> &str {
    let n_parts = match path {
        path if path.starts_with("host/server/") => 3,
        path if path.starts_with("host/") => 2,
        _ => 1,
    };
    let mut ends = path.match_indices('/').map(|(at, _)| at);
    ends.nth(n_parts - 1).map_or(path, |end| &path[..end])
}

/// A source without the module of its own tests.
fn without_tests(source: &str) -> &str {
    static TESTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^#\[cfg\(test\)\]\nmod \w+ \{").unwrap());
    let tests = TESTS.find(source);
    tests.map_or(source, |found| &source[..found.start()])
}

/// The string literals of a Rust source.
fn literals(source: &str) -> Vec<String> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let comment = r"//[^\n]*";
        let raw = r####"r###"(.*?)"###|r##"(.*?)"##|r#"(.*?)"#|\br"([^"]*)""####;
        let plain = r#""((?:\\.|[^"\\])*)""#;
        let letter = r"'(?:\\.|[^'\\])'";
        Regex::new(&format!("(?s){comment}|{raw}|{plain}|{letter}")).unwrap()
    });
    let tokens = TOKEN.captures_iter(source);
    let literals = tokens.filter_map(|token| token.iter().skip(1).flatten().next());
    literals
        .map(|literal| literal.as_str().to_owned())
        .collect()
}

/// The prose of a file: a page, the messages of a source, or the texts of the console.
fn prose(file: &File) -> Vec<String> {
    if file.path == "docs/proofs.md" {
        // Names of tests are no prose.
        let name = Regex::new("`[a-z0-9_]{8,}`").unwrap();
        return vec![name.replace_all(&file.text, "").into_owned()];
    }
    if file.path.rsplit('.').next() == Some("rs") {
        return literals(without_tests(&file.text));
    }
    vec![file.text.clone()]
}

fn retired_phrases(file: &File) -> Vec<String> {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let patterns = PHRASES.iter().map(|(pattern, right)| {
            let mut pattern = RegexBuilder::new(pattern);
            (pattern.case_insensitive(true).build().unwrap(), *right)
        });
        patterns.collect()
    });
    let texts = prose(file);
    let mut found = Vec::new();
    for (pattern, right) in PATTERNS.iter() {
        for text in &texts {
            let phrases = pattern.find_iter(text);
            found.extend(phrases.map(|phrase| format!("says `{}`: {right}", phrase.as_str())));
        }
    }
    found
}

/// The public names that a file defines: items, fields and variants of Rust, tables and columns, and JSON fields.
fn public_names(file: &File) -> Vec<String> {
    static RUST: LazyLock<Regex> = LazyLock::new(|| {
        let item = r"(?:(?:fn|struct|enum|trait|const|static|type|mod) )?(\w+)";
        let public = format!(r"^\s*pub(?:\([^)]*\))? (?:async |const |unsafe )*{item}");
        let variant = r"^    ([A-Z]\w*)(?:,|\(| \{| = )";
        Regex::new(&format!("(?m){public}|{variant}")).unwrap()
    });
    static JSON: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#""(\w+)":|"operationId": "(\w+)""#).unwrap());
    // Comments of the other formats come first and define nothing.
    static OTHERS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)--.*$|//.*$|\b([a-z_]\w*)\b").unwrap());
    let pattern = match file.path.rsplit('.').next() {
        Some("rs") => &RUST,
        Some("json") => &JSON,
        _ => &OTHERS,
    };
    let names = pattern.captures_iter(without_tests(&file.text));
    let names = names.filter_map(|name| name.iter().skip(1).flatten().next());
    names.map(|name| name.as_str().to_owned()).collect()
}

/// `KeptAway` and `kept_away` are both `kept`, `away`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| letter != '_') {
            part.extend(letter.to_lowercase());
        }
    }
    parts
}

fn retired_names(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for name in public_names(file) {
        let parts = parts(&name);
        let by_part = NAME_PARTS
            .iter()
            .filter(|(retired, _)| parts.iter().any(|part| part == retired));
        let whole = NAMES.iter().filter(|(retired, _)| name == *retired);
        found.extend(
            by_part
                .chain(whole)
                .map(|(_, right)| format!("is named `{name}`: {right}")),
        );
    }
    found
}

/// Files of the project that `is_ours` chooses.
fn chosen(endings: &[&str], is_ours: impl Fn(&str) -> bool) -> Vec<File> {
    let all = endings.iter().flat_map(|ending| files(ending));
    all.filter(|file| is_ours(&file.path)).collect()
}

fn is_code(path: &str) -> bool {
    let folders = [
        "host/",
        "plugins/",
        "plugin-sdk/",
        "proto/",
        "xtask/",
        "wit/",
    ];
    folders.iter().any(|folder| path.starts_with(folder)) && !path.contains("/tests")
}

fn texts() -> Vec<File> {
    let is_console = |path: &str| path.starts_with("host/server/console/src/");
    let mut texts = chosen(&[".md"], |_| true);
    texts.extend(chosen(&[".rs"], is_code));
    texts.extend(chosen(&[".js", ".html"], is_console));
    texts
}

fn names() -> Vec<File> {
    let mut names = chosen(&[".rs", ".proto", ".wit"], is_code);
    names.extend(chosen(&[".sql"], |path| path.starts_with("migrations/")));
    names.extend(chosen(&["openapi.json"], |_| true));
    names
}

#[test]
fn no_retired_word_is_used() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let phrases = texts()
        .into_iter()
        .map(|file| (retired_phrases(&file), file));
    let names = names().into_iter().map(|file| (retired_names(&file), file));
    for (words, file) in phrases.chain(names) {
        let of_folder = found.entry(folder(&file.path).to_owned()).or_default();
        of_folder.extend(words.iter().map(|what| format!("{}: {what}", file.path)));
    }
    found.retain(|_, words| !words.is_empty());
    let mut wrong = Vec::new();
    for (folder, words) in &found {
        let allowed = ALLOWED.iter().find(|(name, _)| name == folder);
        let allowed = allowed.map_or(0, |(_, number)| *number);
        if words.len() > allowed {
            let words = words.join("\n");
            wrong.push(format!(
                "{folder} may have {allowed} retired words, and has more:\n{words}"
            ));
        }
    }
    for (folder, allowed) in ALLOWED {
        let number = found.get(*folder).map_or(0, Vec::len);
        if number < *allowed {
            wrong.push(format!(
                "{folder} has {number} retired words; lower the {allowed} in ALLOWED"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_retired_word_is_found() {
    for text in [
        "The database is away.",
        "A host looks for work by itself.",
        "It looks again and again.",
        "The incident ends by itself.",
        "The present state does not allow this.",
        "Mend the cause.",
        "It could not be written down.",
        "The workflow is told.",
        "The incident tells of it.",
        "The host goes on.",
        "It is begun anew.",
        "The node was taken away.",
        "The agent tries again.",
        "The host looks whether it runs.",
        "The command line finds its way.",
        "A person's wish.",
        "It ends of its own accord.",
    ] {
        let page = File::new("docs/x.md", text);
        assert!(!retired_phrases(&page).is_empty(), "{text}");
        let message = File::new(
            "host/bus/src/x.rs",
            &format!("fn a() {{ bail!(\"{text}\"); }}\n"),
        );
        assert!(!retired_phrases(&message).is_empty(), "{text}");
        let comment = File::new("host/bus/src/x.rs", &format!("// {text}\n"));
        assert_eq!(retired_phrases(&comment), Vec::<String>::new(), "{text}");
    }
    for (path, text) in [
        ("x.rs", "pub struct Asked;"),
        ("x.rs", "pub fn begin_anew() {}"),
        ("x.rs", "pub enum Bus {\n    Away,\n}"),
        ("x.rs", "pub struct Node {\n    pub host_id: u8,\n}"),
        ("x.sql", "CREATE TABLE hosts (id TEXT);"),
        ("openapi.json", "{ \"host_id\": {} }"),
        ("x.proto", "string told = 1;"),
    ] {
        assert!(!retired_names(&File::new(path, text)).is_empty(), "{text}");
    }
    assert_eq!(
        retired_phrases(&File::new(
            "docs/proofs.md",
            "| x | `a_host_that_is_told_of` |"
        )),
        Vec::<String>::new()
    );
    let page = File::new(
        "docs/x.md",
        "The host retries while the database is unavailable.",
    );
    check(
        retired_phrases,
        &[page],
        &File::new("docs/x.md", "It goes on."),
    );
}

#[test]
fn words_are_counted_by_crate() {
    for (path, of) in [
        ("host/bus/src/nats/consume.rs", "host/bus"),
        ("host/server/console/src/app.js", "host/server/console"),
        ("host/server/src/reload.rs", "host/server/src"),
        ("docs/operator/keys.md", "docs"),
        ("README.md", "README.md"),
        ("migrations/sqlite/0001_init.sql", "migrations"),
    ] {
        assert_eq!(folder(path), of);
    }
}
