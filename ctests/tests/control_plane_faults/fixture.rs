//! A pod with the faulty control plane, and a program of it.

use std::time::Duration;

use ctests::{Backend, Client, Counters, GoControlPlane, GoMesh, Mode, Pod, Variant, wait_until};

pub const SOON: Duration = Duration::from_secs(10);
/// Of the client's back-off, at its longest.
pub const AFTER_BACK_OFF: Duration = Duration::from_secs(25);

/// A pod with a control plane, six endpoints and a program that was balanced once.
pub struct Fixture<'pod> {
    pub pod: &'pod Pod,
    pub server: GoControlPlane<'pod>,
    pub client: Client,
    _backends: Vec<Backend>,
}

impl<'pod> Fixture<'pod> {
    /// `None`: skipped.
    #[track_caller]
    pub fn start(pod: &'pod Pod, variant: Variant) -> Option<Self> {
        let backends = pod.greeters(Mode::Echo, 6);
        let mut server = pod.go_control_plane(variant, &GoMesh::at(1, 1))?;
        server.lead();
        let client = Client::start(pod);
        server.await_ack("EDS");
        let mut fixture = Self { pod, server, client, _backends: backends };
        fixture.goes_to(1, "the first mesh");
        Some(fixture)
    }

    /// One connect of the program that runs since the beginning.
    #[track_caller]
    pub fn stays_at(&mut self, n: u8) {
        assert_eq!(connect(&mut self.client), format!("backend=greeter-{n}"), "{}", self.pod.dump());
    }

    /// Connects until the endpoint is the new one.
    #[track_caller]
    pub fn goes_to(&mut self, n: u8, what: &str) {
        let expected = format!("backend=greeter-{n}");
        let (pod, client) = (self.pod, &mut self.client);
        wait_until(what, AFTER_BACK_OFF, || pod.dump(), || connect(client) == expected);
    }

    /// Serves the greeter at another endpoint, and waits until it is used.
    #[track_caller]
    pub fn moves_to(&mut self, n: u8) {
        self.server.serve(&GoMesh::at(n, 1));
        self.goes_to(n, "the endpoints after the fault");
    }
}

/// One connect of the client, at the pace of a busy program: hundreds a second.
#[track_caller]
pub fn connect(client: &mut Client) -> String {
    // The pace, not a proof of anything.
    std::thread::sleep(Duration::from_millis(2));
    client.connect()
}

/// Requests and responses of a type.
pub fn count(counters: &Counters, kind: &str) -> (u64, u64) {
    let of = |map: &std::collections::BTreeMap<String, u64>| map.get(kind).copied().unwrap_or(0);
    (of(&counters.requests), of(&counters.responses))
}
