//! The task that keeps one stream to the control plane alive.
//!
//! ```text
//!   connecting --ok--> streaming --ended--> waiting (back-off) --> connecting
//!       \--failed-----------------------------^
//! ```
//!
//! It moves bytes: what to say and what an answer means is the business of [`Protocol`]. Its owner speaks to it
//! through two channels, and stops it with [`Command::Shutdown`] or by dropping either.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::{StreamExt, TryFutureExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::delta::Delta;
use super::event::Event;
use super::machine::Protocol;
use super::session::Session;
use super::sotw::Sotw;
use super::transport::{self, Endpoint, Failure, TransportError};
use crate::resource::ResourceType;

/// How long a server that does not implement delta is not asked for it again.
const SOTW_FOR: Duration = Duration::from_secs(300);
/// Batches that may wait for the owner; then the stream is not read.
const UPDATES_WAITING: usize = 4;
/// Requests that may wait for the connection.
const REQUESTS_WAITING: usize = 4;

/// What the owner asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The names of a type that is subscribed by name (RDS, EDS), all of them.
    SetNames(ResourceType, BTreeSet<String>),
    /// End the task.
    Shutdown,
}

/// What the owner is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The first message of a stream came: from here to the next `Disconnected` there is contact.
    Connected {
        /// `delta` or `sotw`.
        protocol: &'static str,
        /// The control plane's address; `None` = a Unix socket.
        address: Option<IpAddr>,
    },
    /// Changes of configuration, in order; a batch is one response or less.
    Events(Vec<Event>),
    /// There is no stream.
    Disconnected {
        /// One line.
        reason: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
}

/// Both channels of an owner.
#[derive(Debug)]
pub struct Handle {
    /// To the task.
    pub commands: mpsc::UnboundedSender<Command>,
    /// From the task; not reading it stops the stream.
    pub updates: mpsc::Receiver<Update>,
}

/// The task; see [`AdsClient::run`].
pub struct AdsClient<R> {
    endpoint: Endpoint,
    /// Where the present connection goes.
    address: Option<IpAddr>,
    session: Session,
    commands: mpsc::UnboundedReceiver<Command>,
    updates: mpsc::Sender<Update>,
    random: R,
    backoff: Backoff,
    sotw_until: Option<Instant>,
    /// Whether the present attempt has brought a message.
    heard: bool,
}

/// Why a stream is over.
enum Ended {
    /// The owner wants no more.
    Shutdown,
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for Ended {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

impl<R: FnMut() -> u64> AdsClient<R> {
    /// A client for `endpoint` that continues `session` (seeded with what is known, see [`Session::seed`]; made
    /// with the endpoint's node). `random` gives 64 random bits a call.
    pub fn new(endpoint: Endpoint, session: Session, random: R) -> (Self, Handle) {
        let (command_sender, commands) = mpsc::unbounded_channel();
        let (updates, update_receiver) = mpsc::channel(UPDATES_WAITING);
        let client = Self {
            endpoint,
            address: None,
            session,
            commands,
            updates,
            random,
            backoff: Backoff::default(),
            sotw_until: None,
            heard: false,
        };
        (client, Handle { commands: command_sender, updates: update_receiver })
    }

    /// Connects, streams and waits, until the owner ends it.
    pub async fn run(mut self) {
        loop {
            let Ended::Failed(failure) = self.attempt().await else {
                return;
            };
            self.session.disconnected();
            let retry_in = self.backoff.next((self.random)());
            let update = Update::Disconnected { reason: failure.explained(&self.endpoint, self.heard), retry_in };
            if self.updates.send(update).await.is_err() || self.pause(retry_in).await.is_err() {
                return;
            }
        }
    }

    /// One connection, to its end.
    async fn attempt(&mut self) -> Ended {
        self.heard = false;
        let endpoint = self.endpoint.clone();
        let channel = match self.meanwhile(transport::connect(&endpoint)).await {
            Ok(Ok((channel, address))) => {
                self.address = address;
                channel
            }
            Ok(Err(error)) => return error.into(),
            Err(Shutdown) => return Ended::Shutdown,
        };
        if self.sotw_until.is_none_or(|until| until <= Instant::now()) {
            match self.stream::<Delta>(channel.clone()).await {
                Ended::Failed(Failure::Unimplemented) => {
                    self.session.disconnected();
                    self.sotw_until = Some(Instant::now() + SOTW_FOR);
                }
                ended => return ended,
            }
        }
        self.stream::<Sotw>(channel).await
    }

    /// One stream, to its end.
    async fn stream<P: Protocol>(&mut self, channel: Channel) -> Ended {
        let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
        let opening = transport::open::<P>(channel, self.endpoint.clone(), ReceiverStream::new(receiver));
        let incoming = opening.map_ok(|stream| stream.map(|m| m.map_err(Failure::from))).try_flatten_stream();
        tokio::pin!(incoming);
        let mut protocol = P::default();
        let mut first = true;
        let mut request = None;
        loop {
            if request.is_none() {
                request = protocol.outgoing(&mut self.session, Instant::now().into_std());
            }
            if self.tell_events().await.is_err() {
                return Ended::Shutdown;
            }
            let deadline = self.session.next_deadline().map(Instant::from_std);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    if self.obey(command).is_err() {
                        return Ended::Shutdown;
                    }
                }
                permit = requests.reserve(), if request.is_some() => match (permit, request.take()) {
                    (Ok(permit), Some(message)) => permit.send(message),
                    // The connection took the receiving end with it: the reason comes from `incoming`.
                    _ => return incoming.next().await.and_then(Result::err).unwrap_or(TransportError::Closed.into()).into(),
                },
                message = incoming.next() => match message {
                    Some(Ok(response)) => {
                        protocol.handle(&mut self.session, response);
                        if std::mem::take(&mut first) {
                            self.backoff.reset();
                            self.heard = true;
                            if self.updates.send(Update::Connected { protocol: P::NAME, address: self.address }).await.is_err() {
                                return Ended::Shutdown;
                            }
                        }
                    }
                    Some(Err(Failure::Unimplemented)) if !first => {
                        return TransportError::Other("Unimplemented, after it had answered".to_owned()).into();
                    }
                    Some(Err(failure)) => return failure.into(),
                    None => return TransportError::Closed.into(),
                },
                () = sleep_until(deadline) => self.session.tick(Instant::now().into_std()),
            }
        }
    }

    async fn tell_events(&mut self) -> Result<(), Shutdown> {
        let events = self.session.take_events();
        if events.is_empty() {
            return Ok(());
        }
        self.updates.send(Update::Events(events)).await.map_err(|_| Shutdown)
    }

    /// Awaits `work` while obeying commands.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Shutdown> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.commands.recv() => self.obey(command)?,
            }
        }
    }

    async fn pause(&mut self, duration: Duration) -> Result<(), Shutdown> {
        self.meanwhile(tokio::time::sleep(duration)).await
    }

    fn obey(&mut self, command: Option<Command>) -> Result<(), Shutdown> {
        match command {
            Some(Command::SetNames(kind, names)) => {
                self.session.set_names(kind, names);
                Ok(())
            }
            Some(Command::Shutdown) | None => Err(Shutdown),
        }
    }
}

/// The owner wants no more.
#[derive(Debug)]
struct Shutdown;

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
