//! What the ADS machine tells its owner.

use bytes::Bytes;

use crate::resource::{Resource, ResourceType};

/// One change of configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A resource is valid and new or changed.
    Accepted {
        /// Type.
        kind: ResourceType,
        /// Name; empty for the name table.
        name: String,
        /// Version as the server named it.
        version: String,
        /// The resource's bytes, for the journal. They share the memory of the whole message: write or copy
        /// them, do not keep them.
        raw: Bytes,
        /// The typed resource.
        resource: Box<Resource>,
    },
    /// A resource is gone.
    Removed {
        /// Type.
        kind: ResourceType,
        /// Name.
        name: String,
        /// Why.
        why: Removal,
    },
    /// A subscribed resource does not exist: the server said so, or did not send it in time.
    Missing {
        /// Type.
        kind: ResourceType,
        /// Name.
        name: String,
    },
    /// A resource is invalid; its last good value stays.
    Rejected {
        /// Type.
        kind: ResourceType,
        /// Name; empty when the resource had none.
        name: String,
        /// The version that the server gave it.
        version: String,
        /// Field and rule.
        reason: String,
    },
    /// The end of one response; the events before it, since the last `Answered`, are its content.
    Answered {
        /// Type.
        kind: ResourceType,
        /// The version of the whole type; empty where the server has none.
        version: String,
    },
}

/// Why a resource is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The server said so (delta) or left it out of a full list (SotW).
    Server,
    /// Nobody wants it any more.
    Unsubscribed,
}
