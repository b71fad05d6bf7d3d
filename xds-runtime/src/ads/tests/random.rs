//! No message makes the machine panic, and no sequence of them makes it answer without end.

use proptest::prelude::{Strategy, any, prop, proptest};

use super::*;
use crate::ads::delta::Delta;
use crate::ads::sotw::Sotw;
use crate::resource::decode;

fn kinds() -> impl Strategy<Value = ResourceType> {
    prop::sample::select(ResourceType::ALL.to_vec())
}

/// Valid envelopes around anything, so that the content is reached.
fn delta_message() -> impl Strategy<Value = wire::DeltaDiscoveryResponse> {
    let resource = (kinds(), "[ab]{0,2}", prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(kind, name, value)| {
        wire::Resource { name, version: "1".to_owned(), resource: Some(super::any(kind, value.into())) }
    });
    let resources = prop::collection::vec(resource, 0..4);
    (kinds(), resources, prop::collection::vec("[ab]{0,2}", 0..3), "[0-9]{0,1}").prop_map(
        |(kind, resources, removed_resources, nonce)| wire::DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            resources,
            removed_resources,
            nonce,
            ..Default::default()
        },
    )
}

fn feed<P: Protocol>(messages: Vec<P::Response>, wanted: &[&str]) {
    let mut session = session();
    let mut stream = P::default();
    let count = messages.len();
    let mut requests = sent(&mut stream, &mut session).len();
    for message in messages {
        session.set_names(Endpoint, names(wanted));
        stream.handle(&mut session, message);
        requests += sent(&mut stream, &mut session).len();
        session.tick(Instant::now());
        session.take_events();
    }
    assert!(requests <= 4 + 2 * count, "{requests} requests for {count} messages");
}

proptest! {
    #[test]
    fn any_bytes_as_a_resource(kind in kinds(), name in ".{0,8}", bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode(kind, &name, &bytes.into());
    }

    #[test]
    fn any_bytes_as_messages(bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..256), 0..4)) {
        feed::<Delta>(bytes.iter().filter_map(|b| Message::decode(b.as_slice()).ok()).collect(), &["a"]);
        feed::<Sotw>(bytes.iter().filter_map(|b| Message::decode(b.as_slice()).ok()).collect(), &["a"]);
    }

    #[test]
    fn any_content_in_delta_envelopes(messages in prop::collection::vec(delta_message(), 0..6)) {
        feed::<Delta>(messages, &["a", "b"]);
    }

    #[test]
    fn any_content_in_sotw_envelopes(messages in prop::collection::vec(delta_message(), 0..6)) {
        let sotw = messages.into_iter().map(|m| wire::DiscoveryResponse {
            version_info: "1".to_owned(),
            resources: m.resources.into_iter().filter_map(|r| r.resource).collect(),
            type_url: m.type_url,
            nonce: m.nonce,
        });
        feed::<Sotw>(sotw.collect(), &["a", "b"]);
    }
}
