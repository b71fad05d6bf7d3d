//! Bytes as ADS messages of both variants, and as resources of every type.
//!
//! The input is a list of messages: a byte that chooses what the message is, two bytes of length, the message.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use xds_runtime::ads::delta::Delta;
use xds_runtime::ads::sotw::Sotw;
use xds_runtime::ads::wire::{Any, DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use xds_runtime::ads::{Protocol, Session};
use xds_runtime::leader::resources::Resources;
use xds_runtime::resource::ResourceType;

/// What a client may send for one message: the reply, and a change of names.
const REQUESTS_MOST: usize = 2;

fuzz_target!(|data: &[u8]| {
    let (mut delta, mut sotw) = (Run::<Delta>::new(), Run::<Sotw>::new());
    let mut rest = data;
    while let Some((&[what, high, low], tail)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        // The low bits choose a type, so that the envelope need not be guessed.
        match ResourceType::ALL.get(usize::from(what & 7)) {
            Some(kind) => {
                delta.feed(enveloped_delta(*kind, message));
                sotw.feed(enveloped_sotw(*kind, message));
            }
            None => {
                if let Ok(message) = DeltaDiscoveryResponse::decode(message) {
                    delta.feed(message);
                }
                if let Ok(message) = DiscoveryResponse::decode(message) {
                    sotw.feed(message);
                }
            }
        }
        if what & 8 != 0 {
            delta.reconnect();
            sotw.reconnect();
        }
    }
});

struct Run<P> {
    session: Session,
    stream: P,
    resources: Resources,
}

impl<P: Protocol> Run<P> {
    fn new() -> Self {
        let mut session = Session::default();
        session.set_names(ResourceType::Endpoint, ["a".to_owned()]);
        session.set_names(ResourceType::Route, ["a".to_owned()]);
        let mut run = Self { session, stream: P::default(), resources: Resources::default() };
        run.send();
        run
    }

    fn feed(&mut self, message: P::Response) {
        self.stream.handle(&mut self.session, message);
        for event in self.session.take_events() {
            self.resources.apply(event, 0);
        }
        assert!(self.send() <= REQUESTS_MOST);
    }

    fn reconnect(&mut self) {
        self.session.disconnected();
        self.stream = P::default();
        self.send();
    }

    fn send(&mut self) -> usize {
        let now = Instant::now();
        std::iter::from_fn(|| self.stream.outgoing(&mut self.session, now)).count()
    }
}

fn any(kind: ResourceType, value: &[u8]) -> Any {
    Any { type_url: kind.type_url().to_owned(), value: value.to_vec().into() }
}

fn enveloped_delta(kind: ResourceType, value: &[u8]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: "1".to_owned(),
        resources: vec![Resource { resource: Some(any(kind, value)), ..Default::default() }],
        ..Default::default()
    }
}

fn enveloped_sotw(kind: ResourceType, value: &[u8]) -> DiscoveryResponse {
    DiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: "1".to_owned(),
        version_info: "1".to_owned(),
        resources: vec![any(kind, value)],
    }
}
