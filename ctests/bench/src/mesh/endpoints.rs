//! Every endpoint of the mesh, as one listener: the pod's routes lead all of their addresses to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::wire::now_ns;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Who waits for the first connection to an address.
type Awaited = Arc<Mutex<HashMap<IpAddr, oneshot::Sender<u64>>>>;

pub struct Endpoints {
    awaited: Awaited,
}

impl Endpoints {
    /// Answers every request at every address.
    pub async fn listen(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let awaited = Awaited::default();
        tokio::spawn(accept(listener, Arc::clone(&awaited)));
        Ok(Endpoints { awaited })
    }

    /// When the next connection to an address came.
    pub fn first_connection(&self, address: Ipv4Addr) -> oneshot::Receiver<u64> {
        let (tell, told) = oneshot::channel();
        self.awaited.lock().insert(address.into(), tell);
        told
    }
}

async fn accept(listener: TcpListener, awaited: Awaited) {
    while let Ok((connection, _)) = listener.accept().await {
        let now = now_ns();
        if let Ok(local) = connection.local_addr()
            && let Some(tell) = awaited.lock().remove(&local.ip())
        {
            // Whoever waited may have given up.
            let _ = tell.send(now);
        }
        tokio::spawn(serve(connection));
    }
}

/// A client's end of a connection is the end of it.
async fn serve(mut connection: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 1024];
    while connection.read(&mut request).await? > 0 {
        connection.write_all(ANSWER).await?;
    }
    Ok(())
}
