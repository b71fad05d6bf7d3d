//! Where the control plane is: the addresses `LDMESH_XDS` and gRPC's `server_uri` may hold.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::value::Remedy;

/// The control plane's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ControlPlane {
    /// Plaintext gRPC.
    Http(Authority),
    /// gRPC over TLS.
    Https(Authority),
    /// Plaintext gRPC over a unix socket; the path is absolute.
    Unix(PathBuf),
}

/// A host and a port. The host is a name or an address; a v6 address stands without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Name or address.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

impl Authority {
    /// Parses `host:port`, `[v6]:port`, and, where a default is given, the same without a port.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Remedy> {
        let remedy = || Remedy::new("write the address as host:port, a v6 address in brackets");
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) = inner.split_once(']').ok_or_else(remedy)?;
                host.parse::<Ipv6Addr>().map_err(|_| remedy())?;
                (host, rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
                if host.is_empty() || host.len() > 253 || !host.bytes().all(good) {
                    return Err(remedy());
                }
                (host, rest)
            }
        };
        let port = match (rest.strip_prefix(':'), default_port) {
            (Some(port), _) => parse_port(port).ok_or_else(remedy)?,
            (None, Some(default)) if rest.is_empty() => default,
            _ => return Err(remedy()),
        };
        Ok(Authority { host: host.to_owned(), port })
    }
}

/// A port in plain digits, never 0.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl FromStr for ControlPlane {
    type Err = Remedy;
    fn from_str(text: &str) -> Result<Self, Remedy> {
        let authority = |rest: &str| Authority::parse(rest.strip_suffix('/').unwrap_or(rest), None);
        if let Some(rest) = text.strip_prefix("http://") {
            authority(rest).map(ControlPlane::Http)
        } else if let Some(rest) = text.strip_prefix("https://") {
            authority(rest).map(ControlPlane::Https)
        } else if let Some(path) = text.strip_prefix("unix://") {
            parse_socket_path(path).map(ControlPlane::Unix)
        } else {
            Err(Remedy::new("use http://host:port, https://host:port or unix:///path"))
        }
    }
}

/// A unix socket's path: absolute, and short enough for `sun_path` (unix(7): 108 bytes with the final 0).
pub(crate) fn parse_socket_path(path: &str) -> Result<PathBuf, Remedy> {
    if !path.starts_with('/') || path.ends_with('/') || path.len() > 107 {
        return Err(Remedy::new("use an absolute socket path of at most 107 bytes, as in unix:///run/xds.sock"));
    }
    Ok(PathBuf::from(path))
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlPlane::Http(authority) => write!(f, "http://{authority}"),
            ControlPlane::Https(authority) => write!(f, "https://{authority}"),
            ControlPlane::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_taken_and_prints_back() {
        for text in [
            "http://istiod.istio-system.svc:15010",
            "https://10.0.0.1:15012",
            "http://[fd00::1]:15010",
            "unix:///run/xds.sock",
        ] {
            assert_eq!(text.parse::<ControlPlane>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1/".parse::<ControlPlane>().unwrap().to_string(), "http://a:1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "istiod:15010",
            "http://",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:1/path",
            "http://user@a:1",
            "http://a b:1",
            "http://[fd00::1]",
            "http://fd00::1:1",
            "http://[nonsense]:1",
            "unix://relative",
            "unix:///",
            "ftp://a:1",
            "http://[::1",
        ] {
            assert!(text.parse::<ControlPlane>().is_err(), "{text:?} was taken");
        }
    }
}
