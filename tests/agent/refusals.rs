//! What a recipe must not do: leave the node's folder, or install what it does not pin.

use std::io::Write as _;

use proto::v1 as pb;
use proto::v1::command_result::Outcome;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, directory, file, step};

async fn refused(bed: &Bed, step: pb::Step, expected: &str) {
    let described = format!("{step:?}");
    let result = bed.gateway.run(bed.install(vec![step])).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{described}: {result:?}");
    assert!(result.error.contains(expected), "{described}: {result:?}");
}

#[tokio::test]
async fn paths_that_leave_the_folder_are_refused() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let outside = bed.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bed.root().join("link")).unwrap();
    let binary = |name: &str, source: &str| {
        let (name, source) = (name.to_owned(), source.to_owned());
        step(
            "binary",
            StepAction::Binary(pb::Binary {
                name,
                source,
                version: "1".to_owned(),
            }),
        )
    };
    for (step, expected) in [
        (directory("../outside/made"), "`..`"),
        (directory("/tmp/bellwether-escape"), "absolute"),
        (file("a/../../outside/file", "x"), "`..`"),
        (file("run/p.json", "{}"), "belongs to the agent"),
        (file("link/file", "x"), ""),
        (directory("link/made"), ""),
        (binary("../../outside/tool", "x"), "plain name"),
        (binary("tool", "../outside/tool"), "`..`"),
        (binary("tool", "link"), ""),
    ] {
        refused(&bed, step, expected).await;
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(bed.files(), ["link"]);
}

/// A hostile entry, written by hand because the tar library refuses to create it.
fn entry(archive: &mut Vec<u8>, path: &str, kind: u8, link: &str, content: &[u8]) {
    let mut header = [0_u8; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

fn end(mut archive: Vec<u8>) -> Vec<u8> {
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn extract(archive: &str, strip: u32) -> pb::Step {
    let (archive, path) = (archive.to_owned(), "out".to_owned());
    step(
        "extract",
        StepAction::Extract(pb::Extract {
            archive,
            path,
            strip,
        }),
    )
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(content).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test]
async fn a_packed_file_is_unpacked_by_its_name_and_what_is_not_known_refused() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let zst = zstd::encode_all(b"the program".as_slice(), 0).unwrap();
    for (name, content) in [("tool.zst", zst), ("tool.gz", gzip(b"the program"))] {
        std::fs::write(bed.root().join(name), content).unwrap();
        let command = bed.install(vec![extract(name, 0)]);
        bed.gateway.run_well(command).await;
        let content = std::fs::read_to_string(bed.root().join("out/tool")).unwrap();
        assert_eq!(content, "the program", "{name}");
        std::fs::remove_dir_all(bed.root().join("out")).unwrap();
        std::fs::remove_file(bed.root().join(name)).unwrap();
    }
    for (name, magic) in [
        ("a.zip", b"PK\x03\x04".as_slice()),
        ("a.tar.xz", b"\xfd7zXZ\0"),
        ("a.tar.bz2", b"BZh9"),
        ("empty.tar", b""),
    ] {
        std::fs::write(bed.root().join(name), magic).unwrap();
        refused(&bed, extract(name, 0), "neither a tar archive nor packed").await;
        assert_eq!(bed.files(), [name], "nothing is left");
        std::fs::remove_file(bed.root().join(name)).unwrap();
    }
}

#[tokio::test]
async fn archives_are_unpacked_and_hostile_ones_refused() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let outside = bed.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for (path, kind, link) in [
        ("../evil", b'0', ""),
        ("/tmp/bellwether-evil", b'0', ""),
        ("a/../../evil", b'0', ""),
        ("link", b'2', "../../../../outside"),
        ("link", b'2', "/etc"),
        ("hard", b'1', "../../../../ca.pem"),
        ("device", b'3', ""),
    ] {
        let mut archive = Vec::new();
        entry(&mut archive, "good", b'0', "", b"good");
        entry(&mut archive, path, kind, link, b"");
        entry(&mut archive, "link/file", b'0', "", b"evil");
        std::fs::write(bed.root().join("evil.tar"), end(archive)).unwrap();
        refused(&bed, extract("evil.tar", 0), "can't be unpacked").await;
        assert_eq!(bed.files(), ["evil.tar"], "{path}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);

    let mut archive = Vec::new();
    entry(&mut archive, "top/", b'5', "", b"");
    entry(&mut archive, "top/sub/file", b'0', "", b"content");
    entry(&mut archive, "top/link", b'2', "sub/file", b"");
    let archive = end(archive);
    std::fs::write(bed.root().join("plain.tar"), &archive).unwrap();
    std::fs::write(bed.root().join("good.tar.gz"), gzip(&archive)).unwrap();
    let zst = zstd::encode_all(archive.as_slice(), 0).unwrap();
    std::fs::write(bed.root().join("good.tar.zst"), zst).unwrap();
    for name in ["plain.tar", "good.tar.gz", "good.tar.zst"] {
        let _ = std::fs::remove_dir_all(bed.root().join("out"));
        bed.gateway
            .run_well(bed.install(vec![extract(name, 1)]))
            .await;
        let content = std::fs::read_to_string(bed.root().join("out/link")).unwrap();
        assert_eq!(content, "content", "{name}");
    }
}
