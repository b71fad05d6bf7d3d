//! The node's own rules for a service, as kube-proxy writes them in its iptables mode.

use std::io::Write;
use std::process::Stdio;

use super::{SERVICE, Way};
use crate::place::Place;

/// A client that connects to the service; the kernel translates the address. The place is one without other ways:
/// its connections are all tracked from now on.
#[track_caller]
pub fn kube_proxy<'a>(place: &'a Place<'a>) -> Way<'a> {
    let (address, port) = SERVICE.split_once(':').unwrap_or_default();
    // What a default route does in a pod: without one, connecting fails before the rules are asked.
    place.pod.ip(&format!("route add 10.96.0.0/16 dev {}\n", place.device()));
    let endpoints = place.endpoints();
    let mut rules = String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-GREETER - [0:0]\n");
    rules.extend((0..endpoints.len()).map(|n| format!(":KUBE-SEP-{n} - [0:0]\n")));
    rules.push_str("-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n");
    rules.push_str(&format!(
        "-A KUBE-SERVICES -d {address}/32 -p tcp -m comment --comment \"default/greeter:http cluster IP\" \
         -m tcp --dport {port} -j KUBE-SVC-GREETER\n"
    ));
    for (n, endpoint) in endpoints.iter().enumerate() {
        let left = endpoints.len() - n;
        let share = if left > 1 {
            format!("-m statistic --mode random --probability {:.11} ", 1.0 / left as f64)
        } else {
            String::new()
        };
        rules.push_str(&format!("-A KUBE-SVC-GREETER {share}-j KUBE-SEP-{n}\n"));
        rules.push_str(&format!("-A KUBE-SEP-{n} -p tcp -m tcp -j DNAT --to-destination {endpoint}\n"));
    }
    rules.push_str("COMMIT\n");
    let mut command = place.pod.command("iptables-restore");
    let done = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().and_then(|mut child| {
        child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(rules.as_bytes()))?;
        child.wait_with_output()
    });
    match done {
        Ok(done) if done.status.success() => Way::new("kube-proxy's rules (iptables)", place, SERVICE),
        Ok(done) => panic!("iptables-restore: {}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => panic!("iptables-restore: {error}"),
    }
}
