//! The event bus through NATS servers.
//!
//! Each host has one connection, which the client restores; this module logs once when it is lost and once when it is
//! back. Wake-ups are plain NATS messages, which nothing stores; transitions are in a JetStream stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt;
use host_domain::event::HealthTransitionEvent;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::address::{Address, Login};
use super::{ANSWER_MAX, BusState, Consumer, Given, Wake};

mod consume;
mod stream;

use stream::Stream;

pub(super) use stream::KEPT;

/// The capacity for wake-ups that wait for the connection or for a slow reader.
const WAKES_MAX: usize = 1_024;
/// A server that misses three pings counts as unavailable.
const PING: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to connect.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The reason before the servers have answered for the first time.
const NOT_YET: &str = "the servers of `events.nats_url` have not answered yet";
/// The reason after the connection was lost.
const LOST: &str =
    "the connection to the servers of `events.nats_url` is lost; the host keeps reconnecting";
/// The client does not report why a connection failed; with TLS the certificate may be the reason.
const OVER_TLS: &str = "; over TLS, check that their certificate is valid for the name in the address and that `events.nats_ca_file` (or the system, when the setting is absent) contains its certificate authority";

/// The bus through NATS. Cheap to clone.
#[derive(Clone)]
pub struct Nats {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// The name of this host, which ignores its own messages.
    host: String,
    subject: String,
    is_tls: bool,
    connection: watch::Sender<Connection>,
    stream: Stream,
    outgoing: mpsc::Sender<Wake>,
    /// Moved out by [`Nats::run`].
    to_send: Mutex<mpsc::Receiver<Wake>>,
    incoming: broadcast::Sender<Wake>,
}

/// The connection to the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Connection {
    /// How many connections there have been.
    n: u64,
    is_up: bool,
}

/// A wake-up as a NATS message.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    from: String,
    wake: Wake,
}

impl Nats {
    pub(super) async fn open(
        address: Address,
        ca_file: Option<PathBuf>,
        prefix: &str,
        host: &str,
    ) -> anyhow::Result<Self> {
        let connection = watch::Sender::new(Connection::default());
        let is_tls = ca_file.is_some() || address.servers.iter().any(ServerAddr::tls_required);
        let options = options(connection.clone(), &address.login, is_tls);
        let mut options = options.name(format!("bellwether {host}"));
        if let Some(path) = ca_file {
            options = options.add_root_certificates(path);
        }
        let client = options.connect(address.servers).await?;
        let (outgoing, to_send) = mpsc::channel(WAKES_MAX);
        let inner = Inner {
            stream: Stream::new(client.clone(), prefix, connection.clone()),
            client,
            host: host.to_owned(),
            subject: format!("{prefix}.wake"),
            is_tls,
            connection,
            outgoing,
            to_send: Mutex::new(to_send),
            incoming: broadcast::Sender::new(WAKES_MAX),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Sends and receives wake-ups, and delivers events to consumers, until `shutdown`.
    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.send_all() => {}
            () = self.hear_all() => {}
            () = self.make_up() => {}
            () = self.inner.stream.run() => {}
        }
        // The last wake-ups, such as the end of an operation, should still be sent.
        drop(tokio::time::timeout(ANSWER_MAX, self.inner.client.flush()).await);
    }

    pub(super) fn wake(&self, wake: Wake) {
        let is_up = self.inner.connection.borrow().is_up;
        if !is_up || self.inner.outgoing.try_send(wake).is_err() {
            crate::metrics::wake_lost();
        }
    }

    pub(super) fn wakes(&self) -> broadcast::Receiver<Wake> {
        self.inner.incoming.subscribe()
    }

    pub(super) fn state(&self) -> BusState {
        let connection = *self.inner.connection.borrow();
        match (connection.is_up, self.inner.stream.trouble()) {
            (false, _) if connection.n == 0 => BusState::Away(away(NOT_YET, self.inner.is_tls)),
            (false, _) => BusState::Away(away(LOST, self.inner.is_tls)),
            (true, Some(why)) => BusState::NoStream(why),
            (true, None) => BusState::Connected,
        }
    }

    pub(super) fn attach(&self, name: &'static str, consumer: Arc<dyn Consumer>) {
        self.inner.stream.attach(name, consumer);
    }

    pub(super) async fn publish(&self, events: &[HealthTransitionEvent]) -> Given {
        self.inner.stream.publish(events).await
    }

    pub(super) fn link(&self) -> Option<u64> {
        self.inner.stream.link()
    }

    pub(super) fn lags(&self) -> Vec<(&'static str, u64)> {
        self.inner.stream.lags()
    }

    async fn send_all(&self) {
        let mut to_send = self.inner.to_send.lock().await;
        while let Some(wake) = to_send.recv().await {
            let from = self.inner.host.clone();
            // These types have only string keys, so serialising them can't fail.
            let json = serde_json::to_vec(&Envelope { from, wake }).unwrap_or_default();
            let subject = self.inner.subject.clone();
            let sent = self.inner.client.publish(subject, json.into());
            if !matches!(tokio::time::timeout(ANSWER_MAX, sent).await, Ok(Ok(()))) {
                crate::metrics::wake_lost();
            }
        }
    }

    async fn hear_all(&self) {
        let subject = self.inner.subject.clone();
        // The client restores the subscription after every lost connection.
        let Ok(mut messages) = self.inner.client.subscribe(subject).await else {
            return;
        };
        while let Some(message) = messages.next().await {
            // A host of another version may send an unknown wake-up; polling then finds the work.
            let heard: Result<Envelope, _> = serde_json::from_slice(&message.payload);
            if let Ok(Envelope { from, wake }) = heard
                && from != self.inner.host
            {
                drop(self.inner.incoming.send(wake));
            }
        }
    }

    /// Wakes everything after a reconnection, because wake-ups in between are lost.
    async fn make_up(&self) {
        let mut connection = self.inner.connection.subscribe();
        let first = connection.wait_for(|connection| connection.is_up);
        if tokio::time::timeout(ANSWER_MAX, first).await.is_err() {
            tell_away(NOT_YET, self.inner.is_tls);
        }
        let mut made_up_for = 0;
        loop {
            let Connection { n, is_up } = *connection.borrow_and_update();
            if is_up && n != made_up_for {
                made_up_for = n;
                drop(self.inner.incoming.send(Wake::Everything));
            }
            if connection.changed().await.is_err() {
                return;
            }
        }
    }
}

fn options(connection: watch::Sender<Connection>, login: &Login, is_tls: bool) -> ConnectOptions {
    let options = ConnectOptions::new()
        .retry_on_initial_connect()
        .ping_interval(PING)
        .connection_timeout(ANSWER_MAX)
        .request_timeout(Some(ANSWER_MAX))
        .subscription_capacity(WAKES_MAX)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            note(&connection, &event, is_tls);
            std::future::ready(())
        });
    match login {
        Login::Nobody => options,
        Login::Token(token) => options.token(token.expose_secret().to_owned()),
        Login::User(user, password) => {
            options.user_and_password(user.clone(), password.expose_secret().to_owned())
        }
    }
}

/// A pause that grows with every attempt, with jitter so that hosts do not reconnect at once.
fn pause(tries: usize) -> Duration {
    let doubled = 50 << tries.min(7);
    let pause = Duration::from_millis(doubled).min(PAUSE_MAX);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

/// Logs each change of the connection once, without the attempts in between.
fn note(connection: &watch::Sender<Connection>, event: &Event, is_tls: bool) {
    match event {
        Event::Connected => {
            connection.send_modify(|connection| {
                connection.n += 1;
                connection.is_up = true;
            });
            crate::metrics::connected(true);
            tracing::info!("the event bus is connected");
        }
        Event::Disconnected | Event::Closed => {
            let was_up = connection
                .send_if_modified(|connection| std::mem::replace(&mut connection.is_up, false));
            crate::metrics::connected(false);
            if was_up {
                tell_away(LOST, is_tls);
            }
        }
        Event::ServerError(error) => {
            tracing::warn!("the event bus: the NATS server reports: {error}");
        }
        Event::SlowConsumer(_) => crate::metrics::wake_lost(),
        Event::ClientError(error) => tracing::debug!("the event bus: {error}"),
        Event::LameDuckMode | Event::Draining => {}
    }
}

fn tell_away(why: &str, is_tls: bool) {
    let why = away(why, is_tls);
    tracing::warn!("the event bus is unavailable; hosts poll, and events wait: {why}");
}

fn away(why: &str, is_tls: bool) -> String {
    let more = if is_tls { OVER_TLS } else { "" };
    format!("{why}{more}")
}
