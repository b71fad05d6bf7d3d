//! What the two variants of the protocol have in common.

use std::time::Instant;

use super::session::Session;

/// One stream of one variant. Made anew for every connection: what must outlive it is in the [`Session`].
///
/// ```text
///   new stream --outgoing--> first request per type --handle(response)--> reply pending --outgoing--> ...
/// ```
///
/// The driver sends everything that [`Protocol::outgoing`] returns until it returns `None`, after each
/// [`Protocol::handle`] and after each change of names in the session.
pub trait Protocol: Default + Send {
    /// What the client sends.
    type Request: prost::Message + Default + Clone + Send + Sync + 'static;
    /// What the server sends.
    type Response: prost::Message + Default + Send + Sync + 'static;
    /// gRPC method path.
    const METHOD: &'static str;
    /// For people: `delta` or `sotw`.
    const NAME: &'static str;

    /// The next request to send, if there is one. `now` starts the clocks of newly subscribed names.
    fn outgoing(&mut self, session: &mut Session, now: Instant) -> Option<Self::Request>;

    /// Takes one response; its effects are in [`Session::take_events`] and the next [`Protocol::outgoing`].
    fn handle(&mut self, session: &mut Session, response: Self::Response);
}
