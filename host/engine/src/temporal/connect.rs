//! Connects to Temporal and ensures that the namespace exists.

use std::time::Duration;

use secrecy::ExposeSecret;
use temporalio_client::errors::ClientConnectError;
use temporalio_client::tonic::{Code, IntoRequest};
use temporalio_client::{ClientTlsOptions, Connection, ConnectionOptions, RetryOptions};
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeNamespaceRequest, DescribeWorkflowExecutionRequest, RegisterNamespaceRequest,
};

use super::payload::span;
use super::reads::execution;
use super::settings::{StartError, TemporalOptions};

/// The time limit for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a request is retried while Temporal is unavailable, before the caller gets the error.
const RETRIES_MAX: Duration = Duration::from_secs(8);
/// How long every part of Temporal may take to learn of a new namespace.
const NAMESPACE_MAX: Duration = Duration::from_secs(30);
/// The pause between two polls.
const POLL: Duration = Duration::from_millis(200);

/// Connects to Temporal.
pub(super) async fn connect(
    options: &TemporalOptions,
    identity: &str,
) -> Result<Connection, StartError> {
    let wanted = ConnectionOptions::new(options.url.clone())
        .identity(identity)
        .maybe_tls_options(tls(options))
        .maybe_api_key(
            options
                .api_key
                .as_ref()
                .map(|key| key.expose_secret().to_owned()),
        )
        .connect_timeout(CONNECT_MAX)
        .retry_options(
            RetryOptions::builder()
                .max_elapsed_time(Some(RETRIES_MAX))
                .build(),
        )
        .build();
    let mut last = None;
    let connected = tokio::time::timeout(CONNECT_MAX, async {
        loop {
            match Connection::connect(wanted.clone()).await {
                // Temporal listens but is not ready, as when host and Temporal start together.
                Err(ClientConnectError::SystemInfoCallError(status))
                    if status.code() == Code::Unavailable
                        && misfit(MISFITS, &format!("{status:?}")).is_none() =>
                {
                    tracing::debug!(error = %status, "Temporal is not ready yet");
                    last = Some(ClientConnectError::SystemInfoCallError(status));
                    tokio::time::sleep(POLL).await;
                }
                connected => return connected,
            }
        }
    });
    let connected = connected.await;
    match (connected, last) {
        (Ok(connected), _) => connected.map_err(|error| failed(options, error.into())),
        (Err(_), Some(error)) => Err(failed(options, error.into())),
        (Err(late), None) => Err(failed(options, late.into())),
    }
}

/// The error for a failed connection, with the setting to check.
fn failed(options: &TemporalOptions, source: anyhow::Error) -> StartError {
    let url = options.url.clone();
    let said = format!("{source:#}");
    let found = misfit(MISFITS, &said).or_else(|| {
        let is_tls = tls(options).is_some();
        is_tls.then(|| misfit(GUESSES, &said)).flatten()
    });
    match found {
        Some((setting, why)) => StartError::Tls {
            url,
            setting,
            why,
            source,
        },
        None => StartError::Away { url, source },
    }
}

/// A message of the client, the setting to check, and our explanation.
type Misfit = (&'static str, &'static str, &'static str);

/// Messages of the client about certificates; it reports these errors only as text.
const MISFITS: &[Misfit] = &[
    (
        "UnknownIssuer",
        "ca_file",
        "the server's certificate is not signed by a certificate authority that this host trusts",
    ),
    // A certificate of another authority with the same name.
    (
        "InvalidCertificate(BadSignature",
        "ca_file",
        "the server's certificate is not signed by a certificate authority that this host trusts",
    ),
    (
        "NotValidForName",
        "server_name",
        "the server's certificate is for another name",
    ),
    (
        "CertificateRequired",
        "client_cert_file",
        "the server requires a client certificate",
    ),
    (
        "fatal alert: UnknownCA",
        "client_cert_file",
        "the server does not trust the certificate authority of this host's client certificate",
    ),
    (
        "fatal alert: DecryptError",
        "client_cert_file",
        "the server does not trust the certificate authority of this host's client certificate",
    ),
    (
        "fatal alert: BadCertificate",
        "client_cert_file",
        "the server rejects this host's client certificate",
    ),
];

/// Messages of the client when the server closed the connection after the handshake looked complete; the reason is
/// often lost.
const GUESSES: &[Misfit] = &[
    ("connection closed", "client_cert_file", GONE),
    ("onnection reset", "client_cert_file", GONE),
    ("ConnectionReset", "client_cert_file", GONE),
    ("roken pipe", "client_cert_file", GONE),
    ("BrokenPipe", "client_cert_file", GONE),
    ("UnexpectedEof", "client_cert_file", GONE),
];
const GONE: &str = "the server closes the connection; it probably requires a client certificate, or a different one";

fn misfit(known: &[Misfit], said: &str) -> Option<(&'static str, &'static str)> {
    let found = known.iter().find(|(words, ..)| said.contains(words));
    found.map(|(_, setting, why)| (*setting, *why))
}

fn tls(options: &TemporalOptions) -> Option<temporalio_client::TlsOptions> {
    let own = &options.tls;
    let is_wanted = options.url.scheme() == "https"
        || options.api_key.is_some()
        || own.ca.is_some()
        || own.client.is_some();
    is_wanted.then(|| {
        let client = own.client.as_ref().map(|(certificate, key)| {
            ClientTlsOptions::builder()
                .client_cert(certificate.clone())
                .client_private_key(key.expose_secret().as_bytes().to_vec())
                .build()
        });
        temporalio_client::TlsOptions::builder()
            .maybe_server_root_ca_cert(own.ca.clone())
            .maybe_domain(own.server_name.clone())
            .maybe_client_tls_options(client)
            .build()
    })
}

/// Checks that the namespace exists, and creates it when the settings allow that.
pub(super) async fn namespace(
    connection: &Connection,
    options: &TemporalOptions,
) -> Result<(), StartError> {
    let namespace = options.namespace.clone();
    let failed = |source: anyhow::Error| StartError::Namespace {
        namespace: options.namespace.clone(),
        source,
    };
    if is_there(connection, options).await.map_err(failed)? {
        return Ok(());
    }
    if !options.create_namespace {
        return Err(StartError::NoNamespace {
            url: options.url.clone(),
            namespace,
        });
    }
    tracing::info!(
        namespace,
        "Temporal has no such namespace; the host creates it"
    );
    let wish = RegisterNamespaceRequest {
        namespace,
        description: "The workflows of Bellwether".to_owned(),
        workflow_execution_retention_period: span(options.retention),
        ..RegisterNamespaceRequest::default()
    };
    let made = connection
        .workflow_service()
        .register_namespace(wish.into_request())
        .await;
    match made {
        Ok(_) => {}
        // Another host created it first.
        Err(status) if status.code() == Code::AlreadyExists => {}
        Err(status) => return Err(failed(status.into())),
    }
    let known = async {
        while !is_known(connection, options).await? {
            tokio::time::sleep(POLL).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    let known = tokio::time::timeout(NAMESPACE_MAX, known).await;
    known.map_err(|late| failed(late.into()))?.map_err(failed)
}

/// Whether the parts of Temporal that refresh their list of namespaces periodically know the namespace: queries a
/// workflow that does not exist.
async fn is_known(connection: &Connection, options: &TemporalOptions) -> anyhow::Result<bool> {
    let wish = DescribeWorkflowExecutionRequest {
        namespace: options.namespace.clone(),
        execution: Some(execution("no-workflow", "")),
    };
    let mut service = connection.workflow_service();
    match service
        .describe_workflow_execution(wish.into_request())
        .await
    {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => {
            Ok(!status.message().to_lowercase().contains("namespace"))
        }
        Err(status) => Err(status.into()),
    }
}

async fn is_there(connection: &Connection, options: &TemporalOptions) -> anyhow::Result<bool> {
    let wish = DescribeNamespaceRequest {
        namespace: options.namespace.clone(),
        ..DescribeNamespaceRequest::default()
    };
    let described = connection
        .workflow_service()
        .describe_namespace(wish.into_request())
        .await;
    match described {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(status.into()),
    }
}
