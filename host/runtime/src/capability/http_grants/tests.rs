//! Which requests pass which grants, as a table.

use std::collections::BTreeMap;

use host_domain::plugin::{AddressRange, HttpGrant};

use super::{Allowed, HttpGrants, Reach, Refusal};

fn grants(targets: &[(&str, &[AddressRange])]) -> HttpGrants {
    let grants: Vec<_> = targets
        .iter()
        .map(|(target, addresses)| HttpGrant {
            target: (*target).into(),
            addresses: addresses.to_vec(),
        })
        .collect();
    HttpGrants::parse(&grants).unwrap()
}

fn check(granted: &[(&str, &[AddressRange])], url: &str) -> Result<Allowed, Refusal> {
    grants(granted).check(url, &BTreeMap::from([("rpc".to_owned(), 8545)]))
}

#[test]
fn a_port_of_the_node_is_reached_on_this_machine() {
    let allowed = |url| check(&[("node:rpc", &[])], url).unwrap();
    assert_eq!(allowed("node:rpc").url.as_str(), "http://127.0.0.1:8545/");
    assert_eq!(
        allowed("node:rpc/status?x=1").url.as_str(),
        "http://127.0.0.1:8545/status?x=1"
    );
    assert_eq!(allowed("node:rpc").reach, Reach::Node);
    assert_eq!(
        allowed("node:rpc/@evil.example/").url.host_str(),
        Some("127.0.0.1")
    );
    assert!(matches!(
        check(&[("node:rpc", &[])], "node:metrics"),
        Err(Refusal::Denied(_))
    ));
    assert!(matches!(
        check(&[("node:rpc", &[])], "node:rpc@evil.example"),
        Err(Refusal::Denied(_))
    ));
    assert!(matches!(
        check(&[("node:p2p", &[])], "node:p2p"),
        Err(Refusal::Invalid(_))
    ));
}

#[test]
fn an_absolute_target_covers_its_origin_and_the_paths_below() {
    let granted: &[(&str, &[AddressRange])] = &[("https://api.example/v1", &[])];
    for url in [
        "https://api.example/v1",
        "https://api.example:443/v1/blocks?x=1",
        "https://API.example/v1/",
    ] {
        assert!(check(granted, url).is_ok(), "{url}");
    }
    for url in [
        "http://api.example/v1",
        "https://api.example:8443/v1",
        "https://api.example/v10",
        "https://api.example/",
        "https://api.example/v1/../v2",
        "https://api.example/v1/%2e%2e/v2",
        "https://api.example/v1/..%2fv2",
        "https://api.example/v1/..%5Cv2",
        "https://api.example.evil.example/v1",
        "https://other.example/v1",
        "https://api.example./v1",
    ] {
        assert!(
            matches!(check(granted, url), Err(Refusal::Denied(_))),
            "{url}"
        );
    }
    for url in [
        "https://user:pw@api.example/v1",
        "https://api.example@evil.example/v1",
        "file:///etc/passwd",
        "nonsense",
    ] {
        assert!(
            matches!(check(granted, url), Err(Refusal::Invalid(_))),
            "{url}"
        );
    }
}

#[test]
fn a_spelt_out_address_is_granted_except_for_metadata() {
    assert_eq!(
        check(
            &[("http://127.0.0.1:9000", &[])],
            "http://127.0.0.1:9000/hook"
        )
        .unwrap()
        .reach,
        Reach::Literal
    );
    assert_eq!(
        check(&[("http://10.1.2.3", &[])], "http://10.1.2.3/")
            .unwrap()
            .reach,
        Reach::Literal
    );
    assert_eq!(
        check(&[("http://[::1]:9000", &[])], "http://[::1]:9000/")
            .unwrap()
            .reach,
        Reach::Literal
    );
    let metadata = "http://169.254.169.254/latest";
    assert!(matches!(
        check(&[("http://169.254.169.254", &[])], metadata),
        Err(Refusal::Denied(_))
    ));
    assert!(
        check(
            &[("http://169.254.169.254", &[AddressRange::LinkLocal])],
            metadata
        )
        .is_ok()
    );
    // The same address in its other spellings is the same host to the URL, hence the same answer.
    assert!(matches!(
        check(&[("http://169.254.169.254", &[])], "http://0xa9fea9fe/"),
        Err(Refusal::Denied(_))
    ));
    assert!(matches!(
        check(
            &[("http://[::ffff:169.254.169.254]", &[])],
            "http://[::ffff:a9fe:a9fe]/"
        ),
        Err(Refusal::Denied(_))
    ));
}

#[test]
fn a_name_carries_the_ranges_of_its_grants() {
    let granted: &[(&str, &[AddressRange])] = &[
        ("http://box.example", &[AddressRange::Private]),
        ("http://box.example/x", &[]),
    ];
    assert_eq!(
        check(granted, "http://box.example/x").unwrap().reach,
        Reach::Name(vec![AddressRange::Private])
    );
}

#[test]
fn a_grant_that_means_nothing_is_refused_at_load() {
    for target in [
        "node:",
        "node:rpc/status",
        "rpc",
        "ftp://x.example",
        "https://u@x.example",
        "https://x.example/?q=1",
    ] {
        let grant = HttpGrant {
            target: target.into(),
            addresses: vec![],
        };
        let error = HttpGrants::parse(&[grant]).unwrap_err();
        assert_eq!(error.code(), "plugin_bad_grant", "{target}");
    }
}
