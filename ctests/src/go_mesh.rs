//! What the faulty control plane serves, and how it ends its streams.

use serde_json::{Value, json};

/// The variant of ADS that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Delta, and state of the world beside it.
    Delta,
    /// State of the world only.
    Sotw,
}

/// What it serves: `greeter` (10.96.0.10:80, listener, route, cluster) and `second` (10.96.0.11:80, without a route).
#[derive(Debug, Clone, Default)]
pub struct GoMesh {
    /// Last bytes of the greeter's endpoints, 127.0.1.n:8080.
    pub greeter: Vec<u8>,
    /// Those of the second service's.
    pub second: Vec<u8>,
    /// Types of which nothing is served, whatever names them: `CDS`, `EDS`, `LDS`, `RDS`.
    pub without: Vec<&'static str>,
    /// Further clusters, which nobody uses.
    pub fillers: u32,
    /// Bytes of metadata in each of them.
    pub filler_bytes: u32,
    /// Bytes of metadata of each of the greeter's endpoints.
    pub padding: u32,
}

impl GoMesh {
    /// Both services at one endpoint each.
    pub fn at(greeter: u8, second: u8) -> Self {
        Self { greeter: vec![greeter], second: vec![second], ..Self::default() }
    }

    pub(crate) fn json(&self) -> Value {
        let addresses = |last: &[u8]| last.iter().map(|n| format!("127.0.1.{n}")).collect::<Vec<_>>();
        json!({
            "Greeter": addresses(&self.greeter), "Second": addresses(&self.second), "Without": self.without,
            "Fillers": self.fillers, "filler_bytes": self.filler_bytes, "Padding": self.padding,
        })
    }
}

/// How open streams end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With status OK.
    Ok,
    /// With status UNAVAILABLE.
    Status,
    /// GOAWAY, and the connection is closed soon after.
    GoAway,
    /// The connection ends by FIN.
    Fin,
    /// The connection ends by RST.
    Reset,
}

impl End {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Status, Self::GoAway, Self::Fin, Self::Reset];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Status => "status",
            Self::GoAway => "goaway",
            Self::Fin => "fin",
            Self::Reset => "reset",
        }
    }
}
