//! Which protocol a port speaks, selected as Istio selects it.

use std::num::NonZeroU16;

/// The protocol of a port, as far as the shape of its listener depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP of any version, gRPC.
    Http,
    /// Plain TCP, and protocols that are treated as such (Mongo, Redis, MySQL).
    Tcp,
    /// TLS passed through.
    Tls,
    /// Not declared: sniffed.
    Undeclared,
}

impl Protocol {
    /// Reads a protocol name (`appProtocol`, a ServiceEntry's `protocol`); unknown names are undeclared. `None` for UDP.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "http2" | "http_proxy" | "grpc" | "grpc-web" | "kubernetes.io/h2c" | "kubernetes.io/ws" => {
                Self::Http
            }
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            "https" | "tls" | "kubernetes.io/wss" => Self::Tls,
            "udp" => return None,
            _ => Self::Undeclared,
        })
    }

    /// The protocol of a Service's TCP port: `appProtocol` first, else the port name up to the first `-`,
    /// else TCP for the ports of server-first protocols.
    pub fn of_port(name: &str, app_protocol: Option<&str>, port: NonZeroU16) -> Option<Self> {
        let name = app_protocol.unwrap_or(name).to_ascii_lowercase();
        let prefix = if name.starts_with("grpc-web") || name.contains('/') {
            name.as_str()
        } else {
            name.split('-').next().unwrap_or_default()
        };
        let prefix = if prefix.starts_with("grpc-web") { "grpc-web" } else { prefix };
        match Self::named(prefix)? {
            Self::Undeclared if is_server_first(port) => Some(Self::Tcp),
            protocol => Some(protocol),
        }
    }
}

/// SMTP, DNS, MySQL and MongoDB: sniffing would wait for a client that waits.
fn is_server_first(port: NonZeroU16) -> bool {
    matches!(port.get(), 25 | 53 | 3306 | 27017)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, app_protocol: Option<&str>, port: u16, expected: Option<Protocol>) {
        let port = NonZeroU16::new(port).expect("a port");
        assert_eq!(Protocol::of_port(name, app_protocol, port), expected, "{name} {app_protocol:?} {port}");
    }

    #[test]
    fn the_port_name_declares_the_protocol() {
        check("http", None, 80, Some(Protocol::Http));
        check("http-web", None, 80, Some(Protocol::Http));
        check("grpc-web-x", None, 80, Some(Protocol::Http));
        check("tcp-db", None, 5432, Some(Protocol::Tcp));
        check("https", None, 443, Some(Protocol::Tls));
        check("httpx", None, 80, Some(Protocol::Undeclared));
        check("", None, 80, Some(Protocol::Undeclared));
        check("", None, 3306, Some(Protocol::Tcp));
        check("udp-x", None, 80, None);
    }

    #[test]
    fn app_protocol_comes_before_the_name() {
        check("http", Some("tcp"), 80, Some(Protocol::Tcp));
        check("tcp", Some("kubernetes.io/h2c"), 80, Some(Protocol::Http));
        check("http", Some("example.com/own"), 80, Some(Protocol::Undeclared));
    }
}
