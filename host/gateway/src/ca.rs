//! The host's own certificate authority: it signs the certificates of the gateway and of agents.
//!
//! Agents trust only this authority, so nobody has to buy or configure a certificate before the first connection. The
//! authority ignores the subject and the extensions that an agent requests: the host alone decides who an agent is.
//! Times in certificates come from the injected clock. They start a little in the past, because agents' clocks differ.

use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::AgentId;
use host_domain::time::{Clock, Millis};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};

use files::{make_folder, read_optional, read_secret, write_atomically};

mod error;
mod files;

pub use error::CaError;

const DAY: Duration = Duration::from_hours(24);
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3_650);
const SERVER_LIFE: Duration = DAY.saturating_mul(365);
const AGENT_LIFE: Duration = DAY.saturating_mul(30);
const BACKDATE: Duration = Duration::from_mins(10);
const CSR_BYTES_MAX: usize = 16 * 1024;

/// The authority. Its key never leaves this struct and its file.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_der: CertificateDer<'static>,
    certificate_pem: String,
    folder: PathBuf,
}

/// A certificate for an agent.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// When it expires.
    pub not_after: Millis,
}

/// The certificate and key of the gateway.
pub struct ServerIdentity {
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// Its key in PEM.
    pub key_pem: String,
    /// When the gateway should replace it.
    pub renew_at: Millis,
}

/// The agent that a certificate names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// The subject of the certificate.
    pub agent_id: AgentId,
    /// When the certificate expires.
    pub not_after: Millis,
}

impl CertificateAuthority {
    /// Loads the authority from a folder, or creates it on the first startup.
    pub fn open(folder: &Path, clock: &dyn Clock) -> Result<Self, CaError> {
        make_folder(folder)?;
        let (key_path, certificate_path) = (folder.join("ca.key"), folder.join("ca.pem"));
        let stored = read_optional(&certificate_path)?;
        let key = match read_key(&key_path)? {
            Some(key) => key,
            None if stored.is_some() => {
                return Err(CaError::KeyMissing {
                    certificate: certificate_path,
                    key: key_path,
                });
            }
            None => make_key(&key_path)?,
        };
        // This also recovers from a crash between writing the two files: the key stays and gets its certificate.
        let certificate_pem = if let Some(pem) = stored {
            pem
        } else {
            let params = authority_params(clock.now())?;
            let pem = params.self_signed(&key).map_err(internal)?.pem();
            write_atomically(&certificate_path, pem.as_bytes(), 0o644)?;
            pem
        };
        let unreadable = |error: anyhow::Error| CaError::Unreadable {
            path: certificate_path.clone(),
            what: "certificate",
            source: error,
        };
        let certificate_der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unreadable(error.into()))?;
        require_key_of(&certificate_der, &key).map_err(unreadable)?;
        let issuer = Issuer::from_ca_cert_der(&certificate_der, key)
            .map_err(|error| unreadable(error.into()))?;
        Ok(Self {
            issuer,
            certificate_der,
            certificate_pem,
            folder: folder.to_owned(),
        })
    }

    /// The authority's certificate, which agents trust.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The gateway's certificate for `localhost` and these names. It is replaced in the last third of its life, when it
    /// lacks a name, and when another authority signed it.
    pub fn server_identity(
        &self,
        names: &[String],
        clock: &dyn Clock,
    ) -> Result<ServerIdentity, CaError> {
        let now = clock.now();
        let mut required: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        for name in names {
            if !required.contains(name) {
                required.push(name.clone());
            }
        }
        match self.stored_identity(&required, now)? {
            Some(identity) => Ok(identity),
            None => self.make_identity(required, now),
        }
    }

    /// Signs an agent's request. It uses only the public key and the proof that the agent holds the private key.
    pub fn sign_agent(
        &self,
        csr_der: &[u8],
        agent_id: AgentId,
        now: Millis,
    ) -> Result<IssuedCertificate, CaError> {
        if csr_der.len() > CSR_BYTES_MAX {
            return Err(CaError::BadRequest(anyhow::anyhow!(
                "the request has {} bytes; the limit is {CSR_BYTES_MAX}",
                csr_der.len()
            )));
        }
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
                .map_err(|error| CaError::BadRequest(error.into()))?;
        let not_after = now.plus(AGENT_LIFE);
        let mut params = base_params(&agent_id.to_string(), now, not_after)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(internal)?;
        Ok(IssuedCertificate {
            der: certificate.der().to_vec(),
            not_after: whole_second(not_after),
        })
    }

    fn stored_identity(
        &self,
        required: &[String],
        now: Millis,
    ) -> Result<Option<ServerIdentity>, CaError> {
        let (key_path, certificate_path) = self.server_files();
        let (Some(key_pem), Some(certificate_pem)) =
            (read_secret(&key_path)?, read_optional(&certificate_path)?)
        else {
            return Ok(None);
        };
        // An unusable certificate is not an error: a new one costs nothing.
        let Some(renew_at) = self.renewal_of(&certificate_pem, &key_pem, required) else {
            return Ok(None);
        };
        let identity = ServerIdentity {
            certificate_pem,
            key_pem,
            renew_at,
        };
        Ok((now < renew_at).then_some(identity))
    }

    /// When the gateway should replace a certificate; `None` when it can't use the certificate.
    fn renewal_of(&self, pem: &str, key_pem: &str, required: &[String]) -> Option<Millis> {
        use x509_parser::extensions::GeneralName;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = KeyPair::from_pem(key_pem).ok()?;
        require_key_of(&der, &key).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let (_, authority) = x509_parser::parse_x509_certificate(&self.certificate_der).ok()?;
        certificate
            .verify_signature(Some(authority.public_key()))
            .ok()?;
        let names = &certificate
            .subject_alternative_name()
            .ok()??
            .value
            .general_names;
        let has = |required: &String| {
            names.iter().any(|name| match name {
                GeneralName::DNSName(dns) => dns == required,
                GeneralName::IPAddress(bytes) => {
                    required.parse().is_ok_and(|ip| *bytes == ip_bytes(ip))
                }
                _ => false,
            })
        };
        let validity = certificate.validity();
        let millis = |time: x509_parser::time::ASN1Time| Millis(time.timestamp() * 1_000);
        let (begin, end) = (millis(validity.not_before), millis(validity.not_after));
        required
            .iter()
            .all(has)
            .then(|| end.minus(end.since(begin) / 3))
    }

    fn make_identity(&self, names: Vec<String>, now: Millis) -> Result<ServerIdentity, CaError> {
        let (key_path, certificate_path) = self.server_files();
        let key = KeyPair::generate().map_err(internal)?;
        let not_after = now.plus(SERVER_LIFE);
        let mut params = base_params("Bellwether gateway", now, not_after)?;
        for name in names {
            let san = CertificateParams::new([name.clone()])
                .map_err(|_| CaError::BadName(name))?
                .subject_alt_names;
            params.subject_alt_names.extend(san);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let certificate_pem = params
            .signed_by(&key, &self.issuer)
            .map_err(internal)?
            .pem();
        let key_pem = key.serialize_pem();
        write_atomically(&key_path, key_pem.as_bytes(), 0o600)?;
        write_atomically(&certificate_path, certificate_pem.as_bytes(), 0o644)?;
        let renew_at = not_after.minus(SERVER_LIFE / 3);
        Ok(ServerIdentity {
            certificate_pem,
            key_pem,
            renew_at,
        })
    }

    fn server_files(&self) -> (PathBuf, PathBuf) {
        (
            self.folder.join("gateway.key"),
            self.folder.join("gateway.pem"),
        )
    }
}

/// Reads the agent that a certificate names. TLS has verified that this authority signed it.
pub(crate) fn peer_identity(der: &[u8]) -> Option<PeerIdentity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let (name, None) = (names.next()?, names.next()) else {
        return None;
    };
    let agent_id = name.as_str().ok()?.parse().ok()?;
    let not_after = Millis(certificate.validity().not_after.timestamp() * 1_000);
    Some(PeerIdentity {
        agent_id,
        not_after,
    })
}

fn authority_params(now: Millis) -> Result<CertificateParams, CaError> {
    let mut params = base_params("Bellwether authority", now, now.plus(AUTHORITY_LIFE))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn base_params(name: &str, now: Millis, not_after: Millis) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.minus(BACKDATE).since(Millis(0));
    params.not_after = epoch + whole_second(not_after).since(Millis(0));
    Ok(params)
}

/// Certificates store whole seconds.
fn whole_second(time: Millis) -> Millis {
    Millis(time.0.div_euclid(1_000) * 1_000)
}

/// 16 random bytes, positive and never zero, as RFC 5280 requires.
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        internal(anyhow::anyhow!(
            "the operating system provides no random bytes"
        ))
    })?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn require_key_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> anyhow::Result<()> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let public = &parsed.public_key().subject_public_key.data;
    anyhow::ensure!(
        public.as_ref() == key.der_bytes(),
        "the certificate belongs to another key"
    );
    Ok(())
}

fn ip_bytes(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn make_key(path: &Path) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate().map_err(internal)?;
    write_atomically(path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<Option<KeyPair>, CaError> {
    let parse = |pem: String| {
        KeyPair::from_pem(&pem).map_err(|error| CaError::Unreadable {
            path: path.to_owned(),
            what: "private key",
            source: error.into(),
        })
    };
    read_secret(path)?.map(parse).transpose()
}

fn internal(error: impl Into<anyhow::Error>) -> CaError {
    CaError::Internal(error.into())
}

#[cfg(test)]
mod tests;
