//! A service that Envoy and ldmesh both lead to: where each is dialled, where its endpoints are, and its YAML.

use std::net::Ipv4Addr;

use crate::{Answers, Dials, ENVOY, Greeters, Manifest, Pod, TcpProxy};

/// A service `NAME.test` of TCP port 80. Its number gives its addresses: 10.97.0.N for ldmesh, port 7000 + N of
/// [`ENVOY`], and 127.1.N.1 and so on, port 8080, for its endpoints `NAME-1` and so on.
#[derive(Debug, Clone)]
pub struct Twin {
    name: String,
    number: u8,
}

/// What YAML says of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct TwinEndpoint {
    /// Its weight.
    pub weight: u32,
    /// Its locality, `region/zone`; the client's own is empty.
    pub locality: &'static str,
    /// Its label `version`.
    pub version: &'static str,
}

impl Default for TwinEndpoint {
    fn default() -> Self {
        Self { weight: 1, locality: "", version: "" }
    }
}

impl Twin {
    /// The service of a number from 1 to 255.
    pub fn new(name: &str, number: u8) -> Self {
        Self { name: name.to_owned(), number }
    }

    /// Its host.
    pub fn host(&self) -> String {
        format!("{}.test", self.name)
    }

    /// Its cluster; `subset` may be empty.
    pub fn cluster(&self, subset: &str) -> String {
        format!("outbound|80|{subset}|{}", self.host())
    }

    /// What its endpoint of a place from 0 calls itself.
    pub fn endpoint(&self, nth: usize) -> String {
        format!("{}-{}", self.name, nth + 1)
    }

    /// Where its endpoint of a place from 0 is.
    pub fn address(&self, nth: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 1, self.number, u8::try_from(nth + 1).unwrap_or(u8::MAX))
    }

    /// Envoy's listener for it.
    pub fn proxy(&self) -> TcpProxy {
        TcpProxy::to(7000 + u16::from(self.number), &self.cluster(""))
    }

    /// Makes an endpoint accept.
    #[track_caller]
    pub fn listen(&self, greeters: &mut Greeters, nth: usize) {
        greeters.listen(&self.endpoint(nth), self.address(nth), 8080);
    }

    /// Connections to it through Envoy.
    pub fn through_envoy(&self, count: usize) -> Dials {
        Dials::to(ENVOY, 7000 + u16::from(self.number), count)
    }

    /// Connections to it with ldmesh.
    pub fn through_ldmesh(&self, count: usize) -> Dials {
        Dials::to(Ipv4Addr::new(10, 97, 0, self.number), 80, count)
    }

    /// Connections through both at the same time; `with` changes the dials of each.
    #[track_caller]
    pub fn both(&self, pod: &Pod, count: usize, with: impl Fn(Dials) -> Dials) -> (Answers, Answers) {
        let (envoy, ldmesh) = (with(self.through_envoy(count)), with(self.through_ldmesh(count)));
        std::thread::scope(|scope| {
            let envoy = scope.spawn(|| envoy.plainly(pod));
            let ldmesh = ldmesh.in_mesh(pod);
            match envoy.join() {
                Ok(envoy) => (envoy, ldmesh),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Its ServiceEntry, and a DestinationRule with this `trafficPolicy` (in one line) and a subset for each of the
    /// versions.
    pub fn documents(&self, manifest: Manifest, rule: &str, endpoints: &[TwinEndpoint], versions: &[&str]) -> Manifest {
        let (name, host, vip) = (&self.name, self.host(), Ipv4Addr::new(10, 97, 0, self.number));
        let line = |(nth, endpoint): (usize, &TwinEndpoint)| {
            let TwinEndpoint { weight, locality, version } = endpoint;
            format!(
                "    - {{address: {}, weight: {weight}, locality: '{locality}', labels: {{version: '{version}'}}}}\n",
                self.address(nth)
            )
        };
        let endpoints: String = endpoints.iter().enumerate().map(line).collect();
        let subsets: Vec<_> =
            versions.iter().map(|version| format!("{{name: {version}, labels: {{version: {version}}}}}")).collect();
        manifest
            .and(&format!(
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
                 hosts: [{host}]\n  addresses: [{vip}]\n  resolution: STATIC\n  location: MESH_INTERNAL\n  \
                 ports: [{{number: 80, name: tcp, protocol: TCP, targetPort: 8080}}]\n  endpoints:\n{endpoints}"
            ))
            .and(&format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
                 spec: {{host: {host}, trafficPolicy: {{{rule}}}, subsets: [{}]}}\n",
                subsets.join(", ")
            ))
    }
}
