//! Several pods in one network: a [`Pod`] that is the node of others.
//!
//! ```text
//! pod 10.244.2.1 [eth0]----[pod-2-1] the node, 10.244.0.2 [pod-2-2]----[eth0] pod 10.244.2.2
//! ```
//! Each has all its namespaces for itself and routes everything to the node, which forwards between them; there is no
//! way on from there. The node does what kube-proxy does for Services: programs without the library reach them, too.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::kubernetes::account_of;
use crate::namespace::POD_V4;
use crate::{Finished, ISTIOD_TLS_URL, Pod, PodBuilder};

impl Pod {
    /// A pod of its own at an address (10.244.2.0/24), whose node this one is: `ACCOUNT-N` of the namespace `default`.
    /// It has the environment that Istio's injection gives, istiod's name, which its programs in the mesh are pointed
    /// at, and in its hosts file those of `services`, as if from the cluster's DNS.
    #[track_caller]
    pub fn beside(&self, hostname: &str, address: Ipv4Addr, services: &[(&str, Ipv4Addr)]) -> Self {
        let services = services.iter().map(|(service, address)| format!("{address} {service}\n"));
        let pod = self.builder_beside(hostname, address).hosts(&format!(
            "127.0.0.1 localhost\n::1 localhost\n{address} {hostname}\n{POD_V4} istiod.istio-system.svc\n{}",
            services.collect::<String>()
        ));
        let pod = pod.build();
        let [.., third, fourth] = address.octets();
        let link = format!("pod-{third}-{fourth}");
        self.ip(&format!(
            "link add {link} type veth peer name eth0 netns {}\n\
             link set {link} up\n\
             route add {address} dev {link}\n",
            pod.holder()
        ));
        pod.ip(&format!(
            "address add {address}/32 dev eth0\n\
             link set eth0 up\n\
             route add {POD_V4} dev eth0\n\
             route add default via {POD_V4} dev eth0\n"
        ));
        Finished::of(self.command("sh").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])).success();
        pod
    }

    fn builder_beside(&self, hostname: &str, address: Ipv4Addr) -> PodBuilder {
        Self::builder()
            .within(self)
            .hostname(hostname)
            .control_plane(ISTIOD_TLS_URL)
            .env("POD_NAME", hostname)
            .env("POD_NAMESPACE", "default")
            .env("SERVICE_ACCOUNT", account_of(hostname))
            .env("INSTANCE_IP", &address.to_string())
    }

    /// Leads connections of the pods on this node from a Service's address to its endpoints in turn, as kube-proxy
    /// does.
    #[track_caller]
    pub fn kube_proxy(&self, service: SocketAddrV4, endpoints: &[SocketAddrV4]) {
        for (left, endpoint) in (1..=endpoints.len()).rev().zip(endpoints) {
            let mut iptables = self.command("iptables");
            iptables.args(["-w", "-t", "nat", "-A", "PREROUTING", "-p", "tcp"]);
            iptables.args(["-d", &service.ip().to_string(), "--dport", &service.port().to_string()]);
            iptables.args(["-m", "statistic", "--mode", "nth", "--every", &left.to_string(), "--packet", "0"]);
            iptables.args(["-j", "DNAT", "--to-destination", &endpoint.to_string()]);
            Finished::of(&mut iptables).success();
            // A pod that is led to itself would not know its own answer.
            let mut hairpin = self.command("iptables");
            let endpoint = endpoint.ip().to_string();
            hairpin.args([
                "-w",
                "-t",
                "nat",
                "-A",
                "POSTROUTING",
                "-s",
                &endpoint,
                "-d",
                &endpoint,
                "-j",
                "MASQUERADE",
            ]);
            Finished::of(&mut hairpin).success();
        }
    }
}
