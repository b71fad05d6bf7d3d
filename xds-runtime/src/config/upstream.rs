//! What the leader connects to and as whom: everything it needs before the first byte goes out.

use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::bootstrap::{Bootstrap, BootstrapError, BootstrapNode, BootstrapTls};
use super::read::read_regular;
use super::{Authority, ControlPlane, IdentityVars, NodeIdentity, Pod, Problem, Settings, Source};

const BOOTSTRAP_LIMIT: usize = 1 << 20;
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
const ISTIO_ROOTS: [&str; 2] = ["/etc/certs/root-cert.pem", "/var/run/secrets/istio/root-cert.pem"];

/// Why the leader cannot know its control plane.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Nothing is configured.
    #[error("no control plane is configured; set LDMESH_XDS")]
    Inert,
    /// The bootstrap file.
    #[error("GRPC_XDS_BOOTSTRAP: cannot read {path}: {error}; name a readable JSON file of at most 1 MiB")]
    BootstrapFile {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: Errno,
    },
    /// The bootstrap's content.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

/// The control plane, how to trust it, and the node to present.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its address.
    pub control_plane: ControlPlane,
    /// Present exactly when the address is `https`.
    pub tls: Option<TlsFiles>,
    /// A service-account token to send as bearer token; to be read again for every stream (kubelet rotates it), and
    /// to be left out when it is not there. Never set for plaintext.
    pub token_file: Option<PathBuf>,
    /// gRPC metadata `clusterid`.
    pub cluster_id: String,
    /// `TRUST_DOMAIN`, or `cluster.local`.
    pub trust_domain: String,
    /// The node.
    pub node: NodeIdentity,
    /// What was left out on the way.
    pub problems: Vec<Problem>,
}

/// Files and names of a TLS connection. Files are to be read again for every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// What to trust.
    pub roots: Roots,
    /// The name the server's certificate must carry.
    pub server_name: String,
    /// Client certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Root certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's.
    System,
    /// A PEM file.
    File(PathBuf),
}

impl Upstream {
    /// Reads the bootstrap and the pod's files. Leader side only.
    pub fn gather(settings: &Settings, pod: &Pod) -> Result<Upstream, ConfigError> {
        let vars = &settings.identity;
        let (control_plane, bootstrap_tls, node) = match settings.source.as_ref().ok_or(ConfigError::Inert)? {
            Source::Address(address) => (address.clone(), None, BootstrapNode::default()),
            Source::BootstrapFile(path) => {
                let (bytes, _) = read_regular(path, BOOTSTRAP_LIMIT)
                    .map_err(|error| ConfigError::BootstrapFile { path: path.clone(), error })?;
                from_bootstrap(Bootstrap::parse(&bytes)?)
            }
            Source::BootstrapText(text) => from_bootstrap(Bootstrap::parse(text.as_bytes())?),
        };
        let (node, problems) = NodeIdentity::gather(settings, &node, pod);
        let tls = match &control_plane {
            ControlPlane::Https(authority) => Some(tls_files(authority, bootstrap_tls.as_ref(), vars, pod)),
            ControlPlane::Http(_) | ControlPlane::Unix(_) => None,
        };
        // A gRPC bootstrap has no call credentials: the pod's token goes to the control plane LDMESH_XDS names.
        let sends_token = tls.is_some() && bootstrap_tls.is_none();
        Ok(Upstream {
            control_plane,
            tls,
            token_file: sends_token.then(|| pod.path(TOKEN)),
            cluster_id: node.metadata_text("CLUSTER_ID").unwrap_or("Kubernetes").to_owned(),
            trust_domain: vars.trust_domain.clone().unwrap_or_else(|| "cluster.local".into()),
            node,
            problems,
        })
    }
}

fn from_bootstrap(bootstrap: Bootstrap) -> (ControlPlane, Option<BootstrapTls>, BootstrapNode) {
    (bootstrap.control_plane, Some(bootstrap.tls), bootstrap.node)
}

fn tls_files(authority: &Authority, bootstrap: Option<&BootstrapTls>, vars: &IdentityVars, pod: &Pod) -> TlsFiles {
    // As Istio's agent: a control plane on localhost is a port-forward to istiod.
    let host = if authority.host.contains("localhost") { "istiod.istio-system.svc" } else { authority.host.as_str() };
    let server_name = vars.istiod_san.clone().unwrap_or_else(|| host.to_owned());
    let roots = match (&vars.xds_root_ca, bootstrap) {
        (_, Some(tls)) => tls.ca_certificate_file.clone().map_or(Roots::System, Roots::File),
        (Some(system), None) if system == "SYSTEM" => Roots::System,
        (Some(file), None) => Roots::File(file.into()),
        (None, None) => {
            let found = ISTIO_ROOTS.iter().find(|path| pod.is_file(path));
            found.map_or(Roots::System, |path| Roots::File(pod.path(path)))
        }
    };
    TlsFiles { roots, server_name, client: bootstrap.and_then(|tls| tls.client.clone()) }
}
