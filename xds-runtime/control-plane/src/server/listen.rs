//! Where the server listens.

use std::future::Future;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::{Router, TcpIncoming};

/// Why a control plane cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; is another control plane running there?")]
    Bind {
        /// The address as given.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The gRPC server failed.
    #[error("gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: String,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds `host:port` (port 0 picks one) or `unix:///path`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: &str) -> Result<Self, ServeError> {
        let bound = match address.strip_prefix("unix://") {
            Some(path) => bind_unix(Path::new(path)).await.map(|listener| Self {
                socket: Socket::Unix(listener, PathBuf::from(path)),
                address: address.to_owned(),
            }),
            None => bind_tcp(address.strip_prefix("http://").unwrap_or(address)).await,
        };
        bound.map_err(|source| ServeError::Bind { address: address.to_owned(), source })
    }

    /// The address to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn run(self, router: Router, until: impl Future<Output = ()>) -> Result<(), ServeError> {
        match self.socket {
            Socket::Tcp(listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, until).await?;
            }
            Socket::Unix(listener, path) => {
                let result = router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), until).await;
                // Best effort: a socket file left behind is replaced by the next start.
                let _ = std::fs::remove_file(path);
                result?;
            }
        }
        Ok(())
    }
}

async fn bind_tcp(address: &str) -> std::io::Result<Listener> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?.to_string();
    Ok(Listener { socket: Socket::Tcp(listener), address })
}

/// Binds a unix socket, in place of a socket file that nobody listens on any more.
async fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}
