//! Connections of clients, counted and timed byte by byte.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// HTTP/2 writes less than this for its own purposes; no response of a mesh is as small.
const OWN_FRAMES: usize = 256;

/// What went over the wire, of all clients together.
#[derive(Debug, Default)]
pub struct Books {
    /// Streams ever opened.
    pub streams: AtomicU64,
    /// Responses sent.
    pub messages: AtomicU64,
    /// The largest of them, in bytes.
    pub largest: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    last_write: AtomicU64,
}

impl Books {
    pub fn to_json(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "streams": count(&self.streams),
            "messages": count(&self.messages),
            "largest_message_bytes": count(&self.largest),
            "sent_bytes": count(&self.sent),
            "received_bytes": count(&self.received),
            "last_write_ns": count(&self.last_write),
        })
    }
}

/// Time of the clock that all processes of a machine have in common.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// The connections that a listener accepts.
pub fn incoming(listener: TcpListener, books: Arc<Books>) -> impl Stream<Item = Result<Counted>> {
    TcpListenerStream::new(listener).map(move |stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(Counted { stream, books: Arc::clone(&books) })
    })
}

/// A connection in the books.
pub struct Counted {
    stream: TcpStream,
    books: Arc<Books>,
}

impl Connected for Counted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl Counted {
    fn wrote(&self, written: &Poll<Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.books.sent.fetch_add(*bytes as u64, Ordering::Relaxed);
            if *bytes >= OWN_FRAMES {
                self.books.last_write.store(now_ns(), Ordering::Relaxed);
            }
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.books.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        done
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
