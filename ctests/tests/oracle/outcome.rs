//! What `ldmesh explain` says, in the oracle's words.

use std::fmt;

use super::cases::{Call, Instead};

/// What a connection gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An endpoint of this cluster.
    Cluster(String),
    /// What it dialled.
    Passes,
    /// ECONNREFUSED.
    Refused,
}

impl Outcome {
    /// Reads an explanation of one address and port; `None` where it says neither.
    pub fn of(explanation: &str) -> Option<Self> {
        let (_, connection) = explanation.split_once("\nconnection ")?;
        connection.lines().skip(1).find_map(|line| {
            let line = line.trim();
            if let Some(cluster) = line.strip_prefix("cluster ") {
                return Some(Self::Cluster(cluster.trim().split(' ').next()?.to_owned()));
            }
            // What leads by the name that was resolved says what becomes of a connection without one.
            let verdict = line.strip_prefix("verdict ").or_else(|| line.strip_prefix("TLS name  decides: "))?;
            match (verdict.contains("passes"), verdict.contains("ECONNREFUSED")) {
                (true, false) => Some(Self::Passes),
                (false, true) => Some(Self::Refused),
                _ => None,
            }
        })
    }

    /// What a call is to get.
    pub fn expected(call: &Call<'_>) -> Self {
        match (call.instead, call.istio) {
            (Some((Instead::Passes, _)), _) | (None, "PassthroughCluster") => Self::Passes,
            // Where HTTP is spoken, Envoy itself answers, with 502.
            (None, "BlackHoleCluster" | "block_all") => Self::Refused,
            (None, cluster) => Self::Cluster(cluster.to_owned()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(name) => f.write_str(name),
            Self::Passes => f.write_str("passes"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

#[test]
fn an_explanation_tells_one_outcome() {
    let of = |lines: &str| Outcome::of(&format!("image  generation 1\nconnection  1.2.3.4:80\n{lines}"));
    let cluster = of("  left out  HTTP rules: x\n  cluster   outbound|80||a (weight 1)\n    verdict   passes: needs\n");
    assert_eq!(cluster, Some(Outcome::Cluster("outbound|80||a".to_owned())));
    assert_eq!(of("  verdict   not described by the mesh: passes\n"), Some(Outcome::Passes));
    assert_eq!(of("  verdict   not in the registry (REGISTRY_ONLY): ECONNREFUSED\n"), Some(Outcome::Refused));
    assert_eq!(of("  TLS name  decides: the one resolved; without one it passes\n"), Some(Outcome::Passes));
    assert_eq!(of("  hash      the source address\n"), None);
}
