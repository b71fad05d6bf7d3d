//! A pod in memory, for tests.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use xds_runtime::boot::BootId;
use xds_runtime::control::{CONTROL_WORDS, Control, ImageId};
use xds_runtime::image::{
    Action, Balancing, Cluster, Destination, Endpoint, HashOn, ImageFile, Locality, Mesh as Tables, Name, Policy,
    Priority, Publisher, Table, encode, file_words,
};
use xds_runtime::resource::Health;
use xds_runtime::shm::{self, Millis};
use xds_runtime::state::{State, state_words};

use crate::core::mesh::{Mesh, Occasion};

const BOOT: BootId = BootId::from_words([1, 2]);

/// A pod without files.
pub struct MemoryPod {
    control: Control,
    image: Option<ImageFile>,
    state: Option<State>,
    /// How often a leader was called for.
    pub called: AtomicUsize,
}

fn words(count: usize) -> &'static [AtomicU64] {
    Box::leak((0..count).map(|_| AtomicU64::new(0)).collect())
}

impl MemoryPod {
    /// Nothing was published.
    pub fn empty() -> Self {
        let control = Control::format(words(CONTROL_WORDS), BOOT).unwrap();
        Self { control, image: None, state: None, called: AtomicUsize::new(0) }
    }

    /// A pod with a live leader and this mesh.
    pub fn with(tables: &Tables) -> Self {
        let pod = Self::empty();
        let content = encode(tables).unwrap();
        let file = words(file_words(content.len()));
        Publisher::format(file, BOOT, 1, 0).unwrap().publish(&content).unwrap();
        pod.control.set_image(ImageId { term: 1, sequence: 0 });
        pod.control.take_lead(shm::now()).unwrap();
        pod.control.heard(shm::now());
        pod.control.announce(shm::now());
        Self { image: ImageFile::open(file, BOOT, 1), ..pod }
    }

    /// The same, with a STATE.
    pub fn with_state(self) -> Self {
        Self { state: State::format(words(state_words(8)), BOOT), ..self }
    }
}

impl Mesh for MemoryPod {
    fn control(&self) -> Control {
        self.control
    }

    fn image(&self) -> Option<ImageFile> {
        self.image
    }

    fn state(&self) -> Option<State> {
        self.state
    }

    fn call_leader(&self, _occasion: Occasion, _now: Millis) {
        self.called.fetch_add(1, Ordering::Relaxed);
    }
}

/// The VIP of the service below.
pub const VIP: &str = "10.96.0.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One service, `greeter.shop.svc.cluster.local`, on port 80 of [`VIP`]; `None` = its endpoints are not there yet.
pub fn greeter(endpoints: Option<&[&str]>) -> Tables {
    let locality = |endpoints: &[&str]| Locality {
        name: String::new(),
        weight: 1,
        slot: None,
        endpoints: endpoints
            .iter()
            .map(|text| Endpoint {
                address: (ip(text), 8080).into(),
                weight: 1,
                health: Health::Healthy,
                takes_mtls: false,
                slot: None,
            })
            .collect(),
    };
    Tables {
        names: vec![
            Name { name: "greeter.shop.svc.cluster.local".into(), addresses: vec![ip(VIP)], headless: false },
            Name {
                name: "db.shop.svc.cluster.local".into(),
                addresses: vec![ip("10.1.0.1"), ip("fd00::1")],
                headless: true,
            },
        ],
        destinations: vec![Destination {
            address: ip(VIP),
            port: 80,
            action: Action::Clusters { shares: vec![(0, 1)], hash: HashOn::Nothing },
            name: Some(0),
            rules_left_out: String::new(),
        }],
        clusters: vec![Cluster {
            name: "greeter".into(),
            owner: None,
            policy: Policy::RoundRobin,
            balancing: Balancing::default(),
            priorities: endpoints.map(|endpoints| {
                vec![Priority { localities: vec![locality(endpoints)], slot: None, table: Table::None }]
            }),
            slot: None,
            connect_timeout: Duration::from_secs(1),
            max_connections: None,
            keepalive: None,
            panic_threshold: 50.0,
            overprovisioning_factor: 140,
            locality_weighted: false,
            outlier: None,
        }],
        ..Tables::default()
    }
}
