//! What the authority signs, stores and refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::SanType;
use uuid::Uuid;

use super::*;

struct At(Millis);

impl Clock for At {
    fn now(&self) -> Millis {
        self.0
    }
}

const NOW: At = At(Millis(1_900_000_000_123));

fn agent() -> AgentId {
    AgentId(Uuid::from_u128(7))
}

fn csr(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn keys_are_the_owners_alone_and_the_authority_stays() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("gateway");
    let first = CertificateAuthority::open(&state, &NOW).unwrap();
    first.server_identity(&[], &NOW).unwrap();
    for key in ["ca.key", "gateway.key"] {
        let mode = fs::metadata(state.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let second = CertificateAuthority::open(&state, &NOW).unwrap();
    assert_eq!(first.certificate_der(), second.certificate_der());
    assert_eq!(
        fs::read_to_string(state.join("ca.pem")).unwrap(),
        second.certificate_pem()
    );
}

#[test]
fn an_exposed_or_missing_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let key = folder.path().join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = CertificateAuthority::open(folder.path(), &NOW)
        .err()
        .unwrap();
    assert!(matches!(exposed, CaError::Exposed { .. }), "{exposed}");
    fs::remove_file(&key).unwrap();
    let missing = CertificateAuthority::open(folder.path(), &NOW)
        .err()
        .unwrap();
    assert!(matches!(missing, CaError::KeyMissing { .. }), "{missing}");
}

#[test]
fn a_crash_before_the_first_certificate_keeps_the_key() {
    let folder = tempfile::tempdir().unwrap();
    CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let key = fs::read(folder.path().join("ca.key")).unwrap();
    fs::remove_file(folder.path().join("ca.pem")).unwrap();
    CertificateAuthority::open(folder.path(), &NOW).unwrap();
    assert_eq!(fs::read(folder.path().join("ca.key")).unwrap(), key);
}

#[test]
fn an_agent_gets_the_subject_that_the_host_chose_and_nothing_it_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let request = csr(|params| {
        params.distinguished_name.push(DnType::CommonName, "root");
        params.subject_alt_names = vec![SanType::DnsName("host.example".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let issued = authority.sign_agent(&request, agent(), NOW.0).unwrap();
    let peer = peer_identity(&issued.der).unwrap();
    assert_eq!(
        peer,
        PeerIdentity {
            agent_id: agent(),
            not_after: issued.not_after
        }
    );
    assert_eq!(
        issued.not_after,
        Millis(1_900_000_000_000 + 30 * 86_400_000)
    );

    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(authority.certificate_der()).unwrap();
    certificate
        .verify_signature(Some(root.public_key()))
        .unwrap();
    assert!(certificate.subject_alternative_name().unwrap().is_none());
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn serials_differ() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let request = csr(|_| {});
    let serial = || {
        let issued = authority.sign_agent(&request, agent(), NOW.0).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        certificate.tbs_certificate.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn a_request_that_was_changed_after_signing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let mut forged = csr(|_| {});
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for request in [forged, vec![], vec![0; CSR_BYTES_MAX + 1]] {
        let refused = authority.sign_agent(&request, agent(), NOW.0).unwrap_err();
        assert!(matches!(refused, CaError::BadRequest(_)), "{refused}");
    }
}

#[test]
fn the_gateways_certificate_is_replaced_in_its_last_third_and_for_a_new_name() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(folder.path(), &NOW).unwrap();
    let names = ["gateway.example".to_owned(), "10.0.0.7".to_owned()];
    let first = authority.server_identity(&names, &NOW).unwrap();
    let again = authority.server_identity(&names[..1], &NOW).unwrap();
    assert_eq!(first.certificate_pem, again.certificate_pem);

    let before = At(again.renew_at.minus(Duration::from_secs(1)));
    let kept = authority.server_identity(&names, &before).unwrap();
    assert_eq!(first.certificate_pem, kept.certificate_pem);
    let renewed = authority
        .server_identity(&names, &At(again.renew_at))
        .unwrap();
    assert_ne!(first.certificate_pem, renewed.certificate_pem);

    let more = authority
        .server_identity(&["10.0.0.8".to_owned()], &NOW)
        .unwrap();
    assert_ne!(renewed.certificate_pem, more.certificate_pem);
    let bad = authority
        .server_identity(&["näme".to_owned()], &NOW)
        .err()
        .unwrap();
    assert!(matches!(bad, CaError::BadName(_)), "{bad}");
}

#[test]
fn a_subject_that_is_no_agent_id_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::open(folder.path(), &NOW).unwrap();
    assert_eq!(peer_identity(authority.certificate_der()), None);
    assert_eq!(peer_identity(b"not a certificate"), None);
}
