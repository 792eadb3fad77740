//! A process that shows with which key it works, and when: whoever reads what several of them wrote down sees whether a key
//! was ever at work in two places.

use std::path::Path;

use super::dev::Dev;

/// The steps that run it. It writes the time and its key's digest into the agent's folder, fifty times a second, and ends only
/// when it is killed.
const SIGNER: &str = r"
  - {name: identity, type: key, with: {name: identity}}
  - name: write-signer
    type: file
    with:
      path: config/signer.sh
      content: |
        trap '' TERM
        key=$(sha256sum < config/identity.key | cut -c1-16)
        while :; do echo $(date +%s%N) $key >> ../../signer.log; sleep 0.02; done
  - name: start-signer
    type: process
    with: {name: signer, command: /bin/sh, args: [config/signer.sh]}
  - name: start-anvil
";

/// Lets each node of the example chain have a key, and sign with it.
pub(crate) fn let_nodes_sign(dev: &Dev) {
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "\nplugins:\n",
        "\nkeys:\n  identity: {algorithm: ed25519, path: config/identity.key}\nplugins:\n",
    );
    dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "\n  - name: start-anvil\n",
        SIGNER,
    );
}

/// The lines that a signer wrote into this file: when, and with which key.
pub(crate) fn signed(log: &Path) -> Vec<(u128, String)> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let whole = text.lines().filter_map(|line| line.split_once(' '));
    // The newest line may be half written.
    let whole = whole.filter(|(_, key)| key.len() == 16);
    whole
        .map(|(at, key)| (at.parse().unwrap(), key.to_owned()))
        .collect()
}

/// Fails unless the second signer began after the first one's end, with the same key.
pub(crate) fn signed_one_after_the_other(first: &Path, second: &Path) {
    let (before, after) = (signed(first), signed(second));
    let (last, first) = (before.last().unwrap(), after.first().unwrap());
    assert_eq!(last.1, first.1, "it is the same key");
    assert!(
        last.0 < first.0,
        "two processes with one key: {last:?} {first:?}"
    );
}
