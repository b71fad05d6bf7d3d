//! Which connections there are, by their last sign of life: an accepted connection, or the head of a request.
//!
//! Anybody in the cluster can open connections, and nobody shows who he is. Where there is no room for another one, the
//! connection that has been silent longest makes it, and one that never asked anything before one that did: whoever
//! opens many and leaves them keeps only his own ones out. The API server calls again on a new connection when it finds
//! an idle one closed.

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

/// Who is told to close, in this order.
#[derive(Debug, Default)]
struct Alive {
    last: u64,
    closing: BTreeMap<Rank, Arc<Notify>>,
}

/// Whether there was a request, and the number of the last sign of life.
type Rank = (bool, u64);

/// One of them; it makes room when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    rank: Mutex<Rank>,
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
        let rank = self.alive.lock().enter(false, Arc::clone(&close));
        Some(Seat { connections: Arc::clone(self), rank: Mutex::new(rank), close, _permit: permit })
    }

    /// Ends the first of those without a request, else the one that has been silent longest.
    pub fn close_oldest(&self) {
        if let Some((_, close)) = self.alive.lock().closing.pop_first() {
            close.notify_one();
        }
    }
}

impl Alive {
    fn enter(&mut self, asked: bool, close: Arc<Notify>) -> Rank {
        self.last = self.last.saturating_add(1);
        self.closing.insert((asked, self.last), close);
        (asked, self.last)
    }
}

impl Seat {
    /// Takes the head of a request.
    pub fn asked(&self) {
        let (mut rank, mut alive) = (self.rank.lock(), self.connections.alive.lock());
        // Not if it has been told to close already.
        if let Some(close) = alive.closing.remove(&*rank) {
            *rank = alive.enter(true, close);
        }
    }

    /// Waits until it has to close.
    pub async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.alive.lock().closing.remove(self.rank.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_without_a_request_go_first_and_then_the_most_silent_one() {
        let connections = Connections::new(4);
        let [busy, idle, newcomer, other] = [(); 4].map(|()| connections.seat());
        let (busy, idle, newcomer, other) = tokio::join!(busy, idle, newcomer, other);
        let seats = [busy, idle, newcomer, other].map(Option::unwrap);
        for asks in [0, 1, 0] {
            seats[asks].asked();
        }
        for next in [2, 3, 1, 0] {
            connections.close_oldest();
            seats[next].closed().await;
            // Whoever was told does not come back.
            seats[next].asked();
        }
        assert!(connections.alive.lock().closing.is_empty());
    }
}
