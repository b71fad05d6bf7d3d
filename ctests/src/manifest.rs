//! Writes Kubernetes YAML for the control plane of a test.

use std::fmt::Write;
use std::net::IpAddr;

/// One port of a service.
#[derive(Debug, Clone)]
pub struct Port {
    name: String,
    port: u16,
    target: u16,
}

impl Port {
    /// A port whose protocol the name tells, as Istio reads it (`http`, `tcp-db`).
    pub fn new(name: &str, port: u16, target: u16) -> Self {
        Self { name: name.to_owned(), port, target }
    }
}

/// A Service and its EndpointSlices.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    namespace: String,
    addresses: Vec<IpAddr>,
    ports: Vec<Port>,
    endpoints: Vec<IpAddr>,
}

impl Service {
    /// A service with one port, `http` 80 to 8080. No cluster addresses make it headless.
    ///
    /// # Panics
    /// When an address does not parse.
    #[track_caller]
    pub fn new(name: &str, namespace: &str, cluster_ips: &[&str], endpoints: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            addresses: addresses(cluster_ips),
            ports: vec![Port::new("http", 80, 8080)],
            endpoints: addresses(endpoints),
        }
    }

    /// Other ports.
    pub fn ports(mut self, ports: &[Port]) -> Self {
        self.ports = ports.to_vec();
        self
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { name, namespace, .. } = self;
        writeln!(text, "---\napiVersion: v1\nkind: Service")?;
        writeln!(text, "metadata: {{name: {name}, namespace: {namespace}}}\nspec:")?;
        match self.addresses.first() {
            None => writeln!(text, "  clusterIP: None")?,
            Some(first) => {
                let all: Vec<_> = self.addresses.iter().map(|ip| format!("'{ip}'")).collect();
                writeln!(text, "  clusterIP: '{first}'\n  clusterIPs: [{}]", all.join(", "))?;
            }
        }
        writeln!(text, "  selector: {{app: {name}}}\n  ports:")?;
        for Port { name, port, target } in &self.ports {
            writeln!(text, "    - {{name: {name}, port: {port}, targetPort: {target}}}")?;
        }
        for (family, is_of) in [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)] {
            let members: Vec<_> = self.endpoints.iter().filter(|ip| is_of(ip)).collect();
            if !members.is_empty() {
                self.write_slice(text, family, &members)?;
            }
        }
        Ok(())
    }

    fn write_slice(&self, text: &mut String, family: &str, members: &[&IpAddr]) -> std::fmt::Result {
        let Self { name, namespace, .. } = self;
        let suffix = family.to_ascii_lowercase();
        writeln!(text, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice")?;
        writeln!(text, "metadata:\n  name: {name}-{suffix}\n  namespace: {namespace}")?;
        writeln!(text, "  labels: {{kubernetes.io/service-name: {name}}}")?;
        writeln!(text, "addressType: {family}\nports:")?;
        for Port { name, target, .. } in &self.ports {
            writeln!(text, "  - {{name: {name}, port: {target}, protocol: TCP}}")?;
        }
        writeln!(text, "endpoints:")?;
        for member in members {
            writeln!(text, "  - {{addresses: ['{member}'], conditions: {{ready: true}}}}")?;
        }
        Ok(())
    }
}

/// A whole file of YAML documents.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    text: String,
}

impl Manifest {
    /// The services, one after the other.
    pub fn of(services: &[Service]) -> Self {
        let mut text = String::new();
        for service in services {
            // Writing to a String does not fail.
            let _ = service.write(&mut text);
        }
        Self { text }
    }

    /// The mesh of most tests: `greeter` in `default` (10.96.0.10:80) at 127.0.1.1 to .`count`,
    /// port 8080.
    pub fn greeter(count: u8) -> Self {
        let endpoints: Vec<_> = (1..=count).map(|n| format!("127.0.1.{n}")).collect();
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        Self::of(&[Service::new("greeter", "default", &["10.96.0.10"], &endpoints)])
    }

    /// With another document, as text.
    pub fn and(mut self, document: &str) -> Self {
        self.text.push_str("---\n");
        self.text.push_str(document.trim());
        self.text.push('\n');
        self
    }

    /// With a limit of connections for the greeter.
    pub fn limited(self, limit: u32) -> Self {
        self.and(&format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: greeter, namespace: default}}\n\
             spec: {{host: greeter, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {limit}}}}}}}}}\n"
        ))
    }

    /// With turns (`ROUND_ROBIN`) instead of the default policy for a service of `default`.
    pub fn and_in_turn(self, service: &str) -> Self {
        self.and(&format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {service}, namespace: default}}\n\
             spec: {{host: {service}, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}}}\n"
        ))
    }

    /// With endpoints for a cluster that a client has to reject: an overprovisioning factor of 0.
    /// They take the place of those that its service would give.
    pub fn and_rejected_endpoints(self, cluster: &str) -> Self {
        // ClusterLoadAssignment { cluster_name: 1, policy: 4 { overprovisioning_factor: 3 {} } }
        let length = u8::try_from(cluster.len()).unwrap_or(u8::MAX);
        let message = [&[0x0a, length], cluster.as_bytes(), &[0x22, 2, 0x1a, 0]].concat();
        self.and_resource("envoy.config.endpoint.v3.ClusterLoadAssignment", cluster, &message)
    }

    /// With an xDS resource as its bytes are. It takes the place of the one that the YAML would give.
    pub fn and_resource(self, message: &str, name: &str, bytes: &[u8]) -> Self {
        self.and(&format!(
            "apiVersion: ldmesh.io/v1\nkind: XdsResource\nmetadata: {{name: raw}}\nspec:\n  \
             typeUrl: type.googleapis.com/{message}\n  name: '{name}'\n  base64: '{}'\n",
            base64(bytes)
        ))
    }

    /// The YAML.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, n| word << 8 | usize::from(chunk.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let digit = DIGITS.get(word >> (18 - 6 * n) & 63).filter(|_| n <= chunk.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

#[track_caller]
fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    let parse = |text: &&str| match text.parse() {
        Ok(address) => address,
        Err(_) => panic!("{text} is no address"),
    };
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_of_endpoints_has_its_own_slice() {
        let service = Service::new("a", "b", &["10.96.0.1"], &["127.0.1.1", "2001:db8::2"]);
        let text = Manifest::of(&[service]).as_str().to_owned();
        assert_eq!(text.matches("kind: EndpointSlice").count(), 2);
        assert!(text.contains("addressType: IPv6"), "{text}");
        assert!(text.contains("clusterIPs: ['10.96.0.1']"), "{text}");
    }

    #[test]
    fn base64_is_padded() {
        let encoded = ["f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn a_service_without_cluster_addresses_is_headless() {
        let text = Manifest::of(&[Service::new("a", "b", &[], &[])]).as_str().to_owned();
        assert!(text.contains("clusterIP: None"), "{text}");
    }
}
