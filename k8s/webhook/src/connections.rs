//! Which connections there are, by their last sign of life: an accepted connection, or the head of a request.
//!
//! Anybody in the cluster can open connections, and nobody shows who he is. Where there is no room for another one, the
//! connection that has been silent longest makes it: whoever opens many and leaves them keeps only his own ones out.
//! The API server calls again on a new connection when it finds an idle one closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    room: Arc<Semaphore>,
    alive: Mutex<Alive>,
}

/// Who is told to close, by the number of the last sign of life.
#[derive(Debug, Default)]
struct Alive {
    last: u64,
    closing: BTreeMap<u64, Arc<Notify>>,
}

/// One of them; it makes room when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    number: Mutex<u64>,
    close: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Connections { room: Arc::new(Semaphore::new(most)), alive: Mutex::default() })
    }

    /// Room for one more, made if need be.
    pub async fn seat(self: &Arc<Self>) -> Option<Seat> {
        if self.room.available_permits() == 0 {
            self.close_oldest();
        }
        let permit = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let close = Arc::new(Notify::new());
        let number = self.alive.lock().enter(Arc::clone(&close));
        Some(Seat { connections: Arc::clone(self), number: Mutex::new(number), close, _permit: permit })
    }

    /// Ends the connection that has been silent longest.
    pub fn close_oldest(&self) {
        if let Some((_, close)) = self.alive.lock().closing.pop_first() {
            close.notify_one();
        }
    }
}

impl Alive {
    fn enter(&mut self, close: Arc<Notify>) -> u64 {
        self.last = self.last.saturating_add(1);
        self.closing.insert(self.last, close);
        self.last
    }
}

impl Seat {
    /// Takes a sign of life.
    pub fn is_alive(&self) {
        let (mut number, mut alive) = (self.number.lock(), self.connections.alive.lock());
        // Not if it has been told to close already.
        if let Some(close) = alive.closing.remove(&*number) {
            *number = alive.enter(close);
        }
    }

    /// Waits until it has to close.
    pub async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.alive.lock().closing.remove(self.number.get_mut());
    }
}
