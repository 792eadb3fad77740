//! A network that can fail: what goes through it stops without a word, as when a cable is pulled.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A way to one address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    is_cut: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// Leads to `to` (`host:port`) for as long as the test's runtime lives.
    pub(crate) async fn to(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(watch::Sender::new(false));
        let (cut, to) = (Arc::clone(&is_cut), to.to_owned());
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, to.clone(), cut.subscribe()));
            }
        });
        Self { address, is_cut }
    }

    /// Nothing passes any more; open connections stay open and silent.
    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// New connections pass; what was cut is closed.
    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn carry(from: TcpStream, to: String, mut is_cut: watch::Receiver<bool>) {
    if *is_cut.borrow() {
        drop(is_cut.wait_for(|is_cut| !is_cut).await);
        return;
    }
    let Ok(to) = TcpStream::connect(to).await else {
        return;
    };
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let carried = async {
        tokio::join!(copy(from_read, to_write), copy(to_read, from_write));
    };
    tokio::pin!(carried);
    let was_cut = tokio::select! {
        () = &mut carried => false,
        cut = is_cut.wait_for(|is_cut| *is_cut) => cut.is_ok(),
    };
    if was_cut {
        // Both halves are held, and nobody reads them.
        drop(is_cut.wait_for(|is_cut| !is_cut).await);
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
