//! What a decision says. Every way of leaving a call alone has a name, is counted, and shows in the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use xds_runtime::image::{PassReason, ReadError};

use crate::core::Errno;

/// What shall happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<R, F> {
    /// The real call, unchanged.
    Pass(Why),
    /// The mesh's own answer or target.
    Redirect(R),
    /// The call fails.
    Fail(F),
}

macro_rules! reasons {
    (
        $(#[$what:meta])* $reasons:ident counted in $counts:ident:
        $($(#[$doc:meta])* $name:ident = $text:literal,)*
    ) => {
        $(#[$what])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $reasons { $($(#[$doc])* $name,)* }

        static $counts: [AtomicU64; $reasons::ALL.len()] = [const { AtomicU64::new(0) }; $reasons::ALL.len()];

        impl $reasons {
            const ALL: &[(Self, &str)] = &[$((Self::$name, $text),)*];

            /// In words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Counts one call.
            pub fn count(self) {
                if let Some(count) = $counts.get(self as usize) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }

            /// How often a call of this process came to this.
            pub fn counted(self) -> u64 {
                $counts.get(self as usize).map_or(0, |count| count.load(Ordering::Relaxed))
            }

            /// The reason of a number.
            pub fn nth(index: usize) -> Option<Self> {
                Self::ALL.get(index).map(|(reason, _)| *reason)
            }
        }

        impl fmt::Display for $reasons {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

reasons! {
    /// Why the mesh fails a call.
    Refusal counted in REFUSALS:
    /// The outbound policy is REGISTRY_ONLY, and nothing describes the destination.
    NotInRegistry = "not in the registry (REGISTRY_ONLY)",
    /// The destination's cluster is the one that goes nowhere.
    BlackHole = "the mesh sends it nowhere",
    /// The cluster has as many connections as it may.
    MaxConnections = "the cluster has all its connections (max_connections)",
    /// The endpoints must be spoken to in TLS, and `LDMESH_FAIL=closed`.
    NeedsTls = "the mesh demands TLS, and LDMESH_FAIL is closed",
    /// Nothing was published, and `LDMESH_FAIL=closed`.
    NoConfiguration = "no configuration yet, and LDMESH_FAIL is closed",
}

impl Refusal {
    /// What a connect that is refused says.
    pub const fn errno(self) -> Errno {
        libc::ECONNREFUSED
    }
}

reasons! {
    /// Why a call passes.
    Why counted in PASSES:
    /// No control plane is configured, or the executable stays out.
    Inert = "no control plane is configured, or the executable is excluded",
    /// The pod's switch is off.
    SwitchedOff = "the pod is switched off",
    /// The runtime's own thread.
    RuntimeThread = "a thread of the runtime",
    /// No IPv4 or IPv6 address.
    NotInet = "not an internet address",
    /// No TCP socket.
    NotStream = "not a TCP socket",
    /// Excluded by name, address or port.
    Excluded = "excluded",
    /// Loopback, link-local and the like.
    NeverMesh = "an address that no mesh touches",
    /// No name, or one that a mesh cannot have.
    NotAName = "not a name of a mesh",
    /// A query for records that no mesh describes.
    OtherRecord = "a query for other records than a mesh's",
    /// Digits.
    Numeric = "digits",
    /// The hosts file answers it.
    HostsFile = "the hosts file answers",
    /// What gethostname says.
    OwnHostname = "the program's own host name",
    /// localhost.
    Localhost = "localhost",
    /// HOSTALIASES may rename it.
    HostAlias = "HOSTALIASES may rename it",
    /// resolv.conf or hosts cannot be read.
    FilesUnknown = "resolv.conf or hosts cannot be read",
    /// The mesh does not describe it.
    NotInMesh = "not in the mesh",
    /// No usable run directory.
    NoRunDirectory = "no usable run directory",
    /// Nothing was published.
    NoImage = "no configuration yet",
    /// Publishes went past the reader.
    Busy = "the image changed too fast",
    /// The image contradicts itself.
    Corrupt = "the image is corrupt",
    /// The control plane was not heard for too long.
    Stale = "the configuration is stale",
    /// The endpoints must be spoken to in TLS.
    NeedsTls = "the mesh demands TLS",
    /// The decision needs bytes of the request.
    NeedsBytes = "the route needs bytes of the request",
    /// A valid policy that this build cannot give.
    Unsupported = "an unsupported policy",
    /// The control plane says: the dialled address.
    OriginalDestination = "the control plane says: the dialled address",
    /// A route names a cluster that is not there.
    NoCluster = "the cluster is not there",
    /// Endpoints are not there yet.
    NoEndpointsYet = "endpoints are not there yet",
    /// No endpoint is usable.
    NoHealthyEndpoint = "no healthy endpoint",
    /// A non-blocking call would have to wait.
    WouldWait = "a non-blocking call does not wait",
    /// A signal ended the wait.
    Interrupted = "a signal ended the wait",
    /// No endpoint has an address that the socket can reach.
    OtherFamily = "no endpoint in the socket's address family",
    /// The socket cannot be identified.
    NoCookie = "the socket has no cookie",
    /// A redirected connect that is still under way.
    Repeated = "a connect that is under way",
    /// `LDMESH_MODE=shadow`.
    Shadow = "shadow mode",
    /// No record of a redirected connection.
    NoRecord = "no record of this socket",
    /// Our own fault.
    Panicked = "a fault of ours was caught",
}

impl From<PassReason> for Why {
    fn from(reason: PassReason) -> Self {
        match reason {
            PassReason::OriginalDestination => Self::OriginalDestination,
            PassReason::NeedsTls => Self::NeedsTls,
            PassReason::NeedsBytes => Self::NeedsBytes,
            PassReason::Unsupported => Self::Unsupported,
            PassReason::NoCluster => Self::NoCluster,
            PassReason::NoEndpointsYet => Self::NoEndpointsYet,
            PassReason::NoHealthyEndpoint => Self::NoHealthyEndpoint,
        }
    }
}

impl From<ReadError> for Why {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Empty => Self::NoImage,
            ReadError::Busy => Self::Busy,
            ReadError::Corrupt => Self::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_by_itself() {
        for (index, (why, text)) in Why::ALL.iter().enumerate() {
            assert_eq!(*why as usize, index, "{text}");
            assert_eq!(Why::nth(index), Some(*why));
        }
        let (before, other) = (Why::Repeated.counted(), Why::Shadow.counted());
        Why::Repeated.count();
        assert_eq!(Why::Repeated.counted(), before + 1);
        assert_eq!(Why::Shadow.counted(), other);
    }

    #[test]
    fn refusals_are_counted_apart() {
        for (index, (refusal, text)) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index, "{text}");
            assert_eq!(Refusal::nth(index), Some(*refusal));
        }
        let (before, other) = (Refusal::BlackHole.counted(), Refusal::NoConfiguration.counted());
        Refusal::BlackHole.count();
        assert_eq!(Refusal::BlackHole.counted(), before + 1);
        assert_eq!(Refusal::NoConfiguration.counted(), other);
    }
}
