//! What an image says, as plain tables: the output of `compile`, the input of `encode`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::balancing::Balancing;
use crate::outlier;
use crate::resource::{Cidr, Health};

/// A complete mesh view. Clusters are referred to by their index in `clusters`, names by theirs in `names`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    /// Names that resolve in the mesh.
    pub names: Vec<Name>,
    /// What connections to an address and port mean.
    pub destinations: Vec<Destination>,
    /// What connections into a prefix mean, tried in this order after the exact destinations.
    pub prefixes: Vec<PrefixDestination>,
    /// Clusters.
    pub clusters: Vec<Cluster>,
    /// What happens to TCP destinations that nothing above describes.
    pub default_action: DefaultAction,
    /// The pod's own addresses, and the control plane's: nothing but an exact destination describes them, and the default
    /// action is not theirs.
    pub own: Vec<IpAddr>,
    /// Differs from pod to pod: where each schedule begins, so that pods do not start on the same endpoint.
    pub seed: u64,
}

/// A name of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// Fully qualified, lower case, no final dot.
    pub name: String,
    /// Addresses in the order in which they are answered; empty = known without address.
    pub addresses: Vec<IpAddr>,
    /// True for a headless service: the addresses are endpoints, there is no VIP.
    pub headless: bool,
}

/// What a connection to an address and a port means.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The address; unspecified = every address with this port that has no destination of its own.
    pub address: IpAddr,
    /// The service's port.
    pub port: u16,
    /// What to do.
    pub action: Action,
    /// Index of the service's name, for the reverse direction and for `explain`.
    pub name: Option<u32>,
    /// HTTP rules that depend on the request and were left out, in words; else empty.
    pub rules_left_out: String,
}

/// A destination that covers a prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixDestination {
    /// The prefix.
    pub prefix: Cidr,
    /// The destination's port.
    pub port: u16,
    /// What to do.
    pub action: Action,
}

/// What to do with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// One of these clusters (index, weight), by weight; the sum of the weights is over 0.
    Clusters {
        /// The clusters.
        shares: Vec<(u32, u32)>,
        /// What a cluster that hashes takes for the key of a connection.
        hash: HashOn,
    },
    /// Leave it to the kernel, for this reason.
    Pass(PassReason),
    /// Refuse it: the mesh's outbound policy or a black hole says so.
    Refuse,
    /// It depends on the TLS server name that the program is going to ask for.
    ServerNames(Vec<ServerName>),
}

/// What connections mean that ask for a TLS server name.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerName {
    /// `a.example` = this name, `.example` = every name below, empty = every other name; each once in a list. The most
    /// specific one counts.
    pub pattern: String,
    /// What to do, not by server name again.
    pub action: Action,
}

/// What a hash policy hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// Nothing: each connection has a random hash, as in Envoy.
    #[default]
    Nothing,
    /// The address that the connection comes from.
    SourceIp,
}

/// What happens to a destination that the mesh does not describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultAction {
    /// ALLOW_ANY: the kernel's own path.
    #[default]
    Pass,
    /// REGISTRY_ONLY: refused.
    Refuse,
}

/// Why the mesh leaves a known destination to the kernel. The number is the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PassReason {
    /// The control plane says: the address that was dialled (ORIGINAL_DST, PassthroughCluster).
    OriginalDestination = 1,
    /// The cluster's endpoints must be spoken to in TLS.
    NeedsTls = 2,
    /// The decision depends on bytes of the request.
    NeedsBytes = 3,
    /// A valid policy that this build cannot give; named beside it.
    Unsupported = 4,
    /// The cluster is named by a route but is not there (yet).
    NoCluster = 5,
    /// The cluster's endpoints are not there yet.
    NoEndpointsYet = 6,
    /// The cluster has no usable endpoint.
    NoHealthyEndpoint = 7,
}

impl PassReason {
    /// The reason of a number found in an image.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::OriginalDestination,
            2 => Self::NeedsTls,
            3 => Self::NeedsBytes,
            4 => Self::Unsupported,
            5 => Self::NoCluster,
            6 => Self::NoEndpointsYet,
            7 => Self::NoHealthyEndpoint,
            _ => return None,
        })
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Name.
    pub name: String,
    /// The cluster whose slots its endpoints and connections have, when that is another one: a subset's whole.
    pub owner: Option<String>,
    /// Policy, or why there is none.
    pub policy: Policy,
    /// What it asks for beside the policy.
    pub balancing: Balancing,
    /// `None`: endpoints were not received yet (EDS that nobody wanted so far).
    pub priorities: Option<Vec<Priority>>,
    /// Slot of the cluster in STATE.
    pub slot: Option<u32>,
    /// Connect timeout.
    pub connect_timeout: Duration,
    /// Limit of connections of the whole pod.
    pub max_connections: Option<u32>,
    /// TCP keepalive of its connections.
    pub keepalive: Option<Keepalive>,
    /// Healthy panic threshold, percent.
    pub panic_threshold: f64,
    /// Overprovisioning factor, percent.
    pub overprovisioning_factor: u32,
    /// Honour locality weights.
    pub locality_weighted: bool,
    /// Outlier detection.
    pub outlier: Option<outlier::Settings>,
}

/// TCP keepalive; `None` = the system's value. Values are over 0, within what Linux takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Probes without an answer before the connection is dropped.
    pub probes: Option<u8>,
    /// Seconds of idleness before the first one.
    pub idle: Option<u16>,
    /// Seconds between them.
    pub interval: Option<u16>,
}

/// How a cluster's endpoints are picked.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Weighted round robin.
    RoundRobin,
    /// Least request.
    LeastRequest {
        /// Candidates.
        choice_count: u32,
        /// Exponent for unequal weights.
        active_request_bias: f64,
    },
    /// Weighted random.
    Random,
    /// By [`Table::Ring`].
    RingHash,
    /// By [`Table::Maglev`].
    Maglev,
    /// The priorities of these clusters (by index, no aggregates) one after the other, each balanced as its own
    /// cluster says. It has no endpoints of its own: `priorities` tells whether those of any member are known.
    Aggregate(Vec<u32>),
    /// Connections are left to the kernel, for this reason; the text names the policy or resource.
    Pass(PassReason, String),
    /// Connections are refused: the cluster goes nowhere.
    Refuse,
}

/// The localities of one priority.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Priority {
    /// Slot of the cursor over all its endpoints in STATE.
    pub slot: Option<u32>,
    /// Localities.
    pub localities: Vec<Locality>,
    /// Where keys lead, for the policies that hash.
    pub table: Table,
}

/// A hash table over the endpoints of a priority: all localities' in order, draining ones included, count from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Table {
    /// None: the policy does not hash.
    #[default]
    None,
    /// A key leads to the first entry (hash, endpoint) at or after it; entries are in order of their hash.
    Ring(Vec<(u64, u32)>),
    /// A key leads to the entry at its remainder.
    Maglev(Vec<u32>),
}

/// One locality of a priority.
#[derive(Clone, Debug, PartialEq)]
pub struct Locality {
    /// `region/zone/sub_zone`.
    pub name: String,
    /// Weight; 0 = no share while another locality of the priority has one.
    pub weight: u32,
    /// Slot of the locality's cursor in STATE.
    pub slot: Option<u32>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port (target port).
    pub address: SocketAddr,
    /// Weight, at least 1.
    pub weight: u32,
    /// Health as the control plane says.
    pub health: Health,
    /// Its pod has Istio's sidecar, which takes mTLS; plain text as well, unless its PeerAuthentication is STRICT, which
    /// no client is told.
    pub takes_mtls: bool,
    /// Slot in STATE.
    pub slot: Option<u32>,
}
