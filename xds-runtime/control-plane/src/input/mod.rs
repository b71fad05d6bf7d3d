//! Kubernetes and Istio YAML to typed documents.
//!
//! A text is read twice: once for the headers (`apiVersion`, `kind`), once with the type each header names.
//! Both passes run on the parser itself and never on a generic tree, so that each error knows its line and
//! the path of its field. What a document means is decided in [`crate::model`].

mod document;
mod kubernetes;
mod policy;
mod scalar;
mod service_entry;
mod sidecar;
mod source;
mod virtual_service;

pub(crate) use document::{Document, Object, RawResource, read_documents};
pub(crate) use kubernetes::{AddressType, EndpointSlice, Node, Pod, Service, SliceEndpoint, SlicePort, Transport};
pub(crate) use policy::{
    ConnectionPool, ConsistentHash, DestinationRule, LoadBalancer, LocalityLb, OutlierDetection, SimpleLb, Tls,
    TlsMode, TrafficPolicy,
};
pub(crate) use scalar::{Address, ClusterIp, PortRef};
pub(crate) use service_entry::{ServiceEntry, ServiceEntryResolution};
pub(crate) use sidecar::{OutboundMode, Sidecar};
pub use source::Source;
pub(crate) use virtual_service::{Destination, HttpMatch, HttpRoute, StringMatch, TcpMatch, VirtualService, Weighted};

/// Why an input cannot be used. Its display is one line that names the file, the line and the field.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}; check that it is there and readable")]
    Read {
        /// The path as given.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A document is not what its kind demands.
    #[error(
        "{file}:{line}: {object}: {field}: {message}; the previous configuration stays in use until this is corrected"
    )]
    Invalid {
        /// File name, or `<text>`.
        file: String,
        /// Line, counted from 1; 0 when the parser could not tell.
        line: usize,
        /// Kind of the document, e.g. `Service`; `document` when that is not known yet.
        object: String,
        /// Path of the field, e.g. `spec.ports[0].port`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}
