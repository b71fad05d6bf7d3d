//! `ldmesh explain HOST[:PORT]`: the whole decision for a name or an address, step by step.
//!
//! The steps are those of the library: the same settings, name files, image and tables. Nothing is advanced or
//! counted by asking.

mod balancing;

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use xds_runtime::config::{Settings, is_never_mesh};
use xds_runtime::image::{
    ActionView, ClusterView, DefaultAction, DestinationView, EndpointView, HashOn, ImageFile, Keepalive, NameView,
    PassReason, PolicyView, ServerNamesView, SlowStart, Torn, View,
};
use xds_runtime::names::{Families, NameFiles, Whose};
use xds_runtime::outlier::{self, Detector};
use xds_runtime::pod::Pod;
use xds_runtime::resource::Health;
use xds_runtime::shm::{self, Millis, WordAddr};
use xds_runtime::state::State;

/// Explains what happens to a name or an address.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `name`, `name:port`, `address`, `address:port` or `[v6]:port`.
    #[arg(value_name = "HOST[:PORT]")]
    target: String,
    /// The name that the program resolved to the address: it decides where TLS goes.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

/// Prints the steps; fails when this environment is not in a mesh or nothing was published.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (host, port) = split(&args.target)?;
    let settings: &'static Settings = Box::leak(Box::new(Settings::from_env(std::env::vars_os())));
    if settings.is_inert() {
        bail!("no control plane is configured, every call passes: set LDMESH_XDS as the program has it");
    }
    let pod = Pod::attach(settings)?;
    let now = shm::now();
    let lead = pod.control().lead();
    let leader = if lead.is_alive(now) { "alive" } else { "gone, the last good configuration is in use" };
    println!("leader      epoch {}, {leader}; switch {:?}", lead.epoch, pod.control().switch());
    let image = pod.image().context("nothing was published yet: start a program of the pod, or `ldmesh agent`")?;
    println!(
        "image       generation {}, published {} ms ago",
        image.generation(),
        now.saturating_sub(pod.control().published())
    );

    let ip = host.parse::<IpAddr>().ok();
    let resolved = args.server_name.as_deref().or_else(|| ip.is_none().then_some(&host));
    let server_name = resolved.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let explainer = Explainer { settings, image, state: pod.state(), now, server_name };
    match ip {
        Some(ip) => explainer.address(ip, port)?,
        None => explainer.name(&host, port)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Host and port of `HOST[:PORT]`.
fn split(target: &str) -> Result<(String, Option<u16>)> {
    if let Some(rest) = target.strip_prefix('[') {
        let (host, port) = rest.split_once(']').with_context(|| format!("{target}: the ] is missing"))?;
        let port = port.strip_prefix(':').map(|port| parse_port(target, port)).transpose()?;
        return Ok((host.into(), port));
    }
    if target.parse::<IpAddr>().is_ok() {
        return Ok((target.into(), None));
    }
    match target.rsplit_once(':') {
        Some((host, port)) => Ok((host.into(), Some(parse_port(target, port)?))),
        None => Ok((target.into(), None)),
    }
}

fn parse_port(target: &str, port: &str) -> Result<u16> {
    port.parse().with_context(|| format!("{target}: {port:?} is no port, give a number from 1 to 65535"))
}

struct Explainer {
    settings: &'static Settings,
    image: ImageFile,
    state: Option<State>,
    now: Millis,
    /// The name that a program which resolved the target would ask for by TLS.
    server_name: Option<String>,
}

impl Explainer {
    fn read<T>(&self, f: impl FnMut(&View<'_>) -> Result<T, Torn>) -> Result<T> {
        Ok(self.image.read(f)?)
    }

    fn name(&self, host: &str, port: Option<u16>) -> Result<()> {
        if self.settings.scope.excludes_name(host) {
            println!("name        {host} is excluded by LDMESH_EXCLUDE or LDMESH_INCLUDE: libc answers");
            return Ok(());
        }
        let files = NameFiles::system(self.settings.resolver.clone());
        let candidates = match files.whose(host, Families::ANY) {
            Whose::Libc(why) => {
                println!("name        {host} is libc's business: {why:?}");
                return port.map_or(Ok(()), |port| self.foreign(host, port));
            }
            Whose::Unknown(why) => {
                println!("name        {host} passes to libc: {why}");
                return Ok(());
            }
            Whose::Ask(candidates) => candidates,
        };
        for candidate in candidates {
            let found = self.read(|view| {
                let Some(name) = view.name(candidate.as_str().as_bytes())? else { return Ok(None) };
                Ok(Some((addresses(view, &name)?, name.headless)))
            })?;
            let Some((addresses, headless)) = found else {
                println!("candidate   {} is not in the mesh", candidate.as_str());
                continue;
            };
            let kind = if headless { "not balanced, its addresses are dialled as they are" } else { "VIP" };
            println!("candidate   {} is in the mesh ({kind}): {}", candidate.as_str(), list(&addresses));
            let Some(ip) = addresses.first() else {
                println!("verdict     the name exists without an address: EAI_NODATA");
                return Ok(());
            };
            return self.address(*ip, port);
        }
        println!("verdict     no candidate of {host} is in the mesh: libc answers");
        match port {
            Some(port) => self.foreign(host, port),
            None => Ok(()),
        }
    }

    /// A name of libc's: its addresses are not asked for, but a listener on every address may know the name.
    fn foreign(&self, host: &str, port: u16) -> Result<()> {
        let every = WordAddr { hi: 0, lo: 0 };
        let lines = self.read(|view| match view.destination(every, port)? {
            Some(found) if matches!(found.action, ActionView::ServerNames(_)) => self.destination(view, &found),
            _ => Ok(Vec::new()),
        })?;
        if !lines.is_empty() {
            println!("connection  {host}:{port}, to an address that has no destination of its own");
            lines.iter().for_each(|line| println!("  {line}"));
        }
        Ok(())
    }

    fn address(&self, ip: IpAddr, port: Option<u16>) -> Result<()> {
        let address = WordAddr::new(ip);
        if let Some(name) = self.read(|view| view.name_of(address)?.map(|name| view.string(name.text)).transpose())? {
            println!("service     {name}");
        }
        let ports = match port {
            Some(port) => vec![port],
            None => self.ports_of(address)?,
        };
        if ports.is_empty() {
            println!("verdict     no port of {ip} is a destination of the mesh: connections pass to the kernel");
        }
        for port in ports {
            self.connection(address, port)?;
        }
        Ok(())
    }

    fn ports_of(&self, address: WordAddr) -> Result<Vec<u16>> {
        let mut ports = self.read(|view| {
            let mut ports = Vec::new();
            for index in 0..view.destination_count()? {
                let (found, port, _) = view.destination_at(index)?;
                if found == address {
                    ports.push(port);
                }
            }
            Ok(ports)
        })?;
        ports.sort_unstable();
        Ok(ports)
    }

    fn connection(&self, address: WordAddr, port: u16) -> Result<()> {
        let ip = address.ip();
        println!("connection  {}", address.socket(port));
        if is_never_mesh(ip) {
            println!("  verdict   loopback, link-local and the like are never touched");
            return Ok(());
        }
        if self.settings.scope.excludes_address(ip, port) {
            println!("  verdict   excluded by LDMESH_EXCLUDE or LDMESH_INCLUDE: passes");
            return Ok(());
        }
        let lines = self.read(|view| match view.destination(address, port)? {
            None => Ok(vec![match view.default_action(address)? {
                DefaultAction::Pass => "verdict   not described by the mesh: passes".to_owned(),
                DefaultAction::Refuse => "verdict   not in the registry (REGISTRY_ONLY): ECONNREFUSED".to_owned(),
            }]),
            Some(destination) => self.destination(view, &destination),
        })?;
        for line in lines {
            println!("  {line}");
        }
        Ok(())
    }

    fn destination(&self, view: &View<'_>, destination: &DestinationView) -> Result<Vec<String>, Torn> {
        let mut lines = Vec::new();
        let rules = view.string(destination.rules_left_out)?;
        if !rules.is_empty() {
            lines.push(format!("left out  HTTP rules that depend on the request: {rules}"));
        }
        self.action(view, destination.action, &mut lines)?;
        Ok(lines)
    }

    fn action(&self, view: &View<'_>, action: ActionView, lines: &mut Vec<String>) -> Result<(), Torn> {
        match action {
            ActionView::Refuse => lines.push("verdict   black hole: ECONNREFUSED".into()),
            ActionView::Pass(reason) => lines.push(format!("verdict   passes: {}", meaning(reason))),
            ActionView::Clusters { first, count, hash } => {
                if hash == HashOn::SourceIp {
                    lines.push("hash      the source address".into());
                }
                for nth in 0..count {
                    let (index, weight) = view.weighted(first, nth)?;
                    self.cluster(view, &view.cluster(index)?, weight, lines)?;
                }
            }
            ActionView::ServerNames(names) => match &self.server_name {
                Some(name) => {
                    lines.push(format!("TLS name  {name}, as the program resolved it"));
                    match view.by_server_name(&names, name.as_bytes())? {
                        Some(ActionView::ServerNames(_)) => return Err(Torn),
                        Some(action) => self.action(view, action, lines)?,
                        None => lines.push(format!("verdict   passes: {}", meaning(PassReason::NeedsBytes))),
                    }
                }
                None => self.server_names(view, &names, lines)?,
            },
        }
        Ok(())
    }

    /// What each server name leads to, for an address of which nobody knows which name was resolved.
    fn server_names(&self, view: &View<'_>, names: &ServerNamesView, lines: &mut Vec<String>) -> Result<(), Torn> {
        const SHOWN: u32 = 32;
        let count = view.server_name_count(names);
        lines
            .push("TLS name  decides: the one that the process resolved to this address; without one it passes".into());
        for nth in 0..count.min(SHOWN) {
            let (pattern, action) = view.server_name_at(names, nth)?;
            let pattern = match view.string(pattern)?.as_str() {
                "" => "any other name".to_owned(),
                below if below.starts_with('.') => format!("*{below}"),
                name => name.to_owned(),
            };
            lines.push(format!("  {pattern}: {}", summary(view, action)?));
        }
        if count > SHOWN {
            lines.push(format!("  and {} more", count - SHOWN));
        }
        Ok(())
    }

    fn cluster(
        &self,
        view: &View<'_>,
        cluster: &ClusterView,
        weight: u32,
        lines: &mut Vec<String>,
    ) -> Result<(), Torn> {
        lines.push(format!("cluster   {} (weight {weight})", view.string(cluster.name)?));
        if let PolicyView::Pass(reason, detail) = cluster.policy {
            let detail = view.string(detail)?;
            let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
            lines.push(format!("  verdict   passes: {}{detail}", meaning(reason)));
            return Ok(());
        }
        let Some(policy) = balancing::policy(cluster.policy) else {
            lines.push("  verdict   black hole: ECONNREFUSED".into());
            return Ok(());
        };
        let limit = cluster.max_connections.map_or(String::new(), |limit| format!(", at most {limit} connections"));
        lines.push(format!("  policy    {policy}, connect timeout {} ms{limit}", cluster.connect_timeout_ms));
        let asked = view.balancing(cluster)?;
        lines.extend(balancing::settings(&asked).iter().map(|setting| format!("  and       {setting}")));
        if let Some(settings) = view.outlier(cluster)? {
            lines.push(format!("  outlier   {}", outlier_detection(&settings)));
        }
        if let Some(Keepalive { probes, idle, interval }) = cluster.keepalive {
            let value = |value: Option<u16>| value.map_or("the system's".to_owned(), |value| value.to_string());
            let (probes, idle, interval) = (value(probes.map(u16::from)), value(idle), value(interval));
            lines.push(format!("  keepalive after {idle} s, every {interval} s, {probes} probes"));
        }
        if !cluster.endpoints_known {
            lines.push(
                "  verdict   endpoints are not known yet: they are asked for when a program resolves or dials it"
                    .into(),
            );
            return Ok(());
        }
        if let PolicyView::Aggregate { first, count } = cluster.policy {
            for nth in 0..count {
                let (member, weight) = view.weighted(first, nth)?;
                self.cluster(view, &view.cluster(member)?, weight, lines)?;
            }
            return Ok(());
        }
        for priority in 0..cluster.priority_count() {
            let priority_view = view.priority(cluster, priority)?;
            for nth in 0..priority_view.locality_count() {
                let locality = view.locality(&priority_view, nth)?;
                let name = view.string(locality.name)?;
                let name = if name.is_empty() { "no locality".to_owned() } else { name };
                lines.push(format!("  priority {priority}, {name}, weight {}", locality.weight));
                for nth in 0..locality.set.len() {
                    let endpoint = view.endpoint(&locality.set, nth)?;
                    lines.push(format!("    {}", self.endpoint(cluster, asked.slow_start, &endpoint)));
                }
            }
        }
        if cluster.priority_count() == 0 {
            lines.push("  verdict   no endpoint: passes to the kernel".into());
        }
        Ok(())
    }

    fn endpoint(&self, cluster: &ClusterView, slow_start: Option<SlowStart>, endpoint: &EndpointView) -> String {
        let health = match endpoint.health {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unhealthy => "unhealthy",
            Health::Draining => "draining",
        };
        let mut line = format!("{} {health}, weight {}", endpoint.address.socket(endpoint.port), endpoint.weight);
        let slot = self.state.zip(endpoint.slot);
        if let Some(slot) = slot.and_then(|(state, index)| state.slot(index, endpoint.tag(cluster))) {
            if let Some(start) = slow_start
                && self.now.saturating_sub(slot.added()) < u64::from(start.window_ms)
            {
                line += &format!(", new for {} ms", self.now.saturating_sub(slot.added()));
            }
            line += &format!(
                ", picks {}, active {}, successes {}, failures {} ({} in a row)",
                slot.picks(),
                slot.active(),
                slot.successes(),
                slot.failures(),
                slot.failures_in_a_row()
            );
            let ejection = slot.ejection();
            if cluster.detects_outliers() && slot.is_ejected(self.now) {
                let by = ejection.detector.map_or("a detector unknown here", |detector| detector.name());
                let (left, times) = (ejection.until.saturating_sub(self.now), ejection.times);
                line += &format!(", EJECTED by {by} for {left} ms more (ejection {times})");
            }
        }
        if endpoint.takes_mtls {
            line += ", has a sidecar: it takes plain text unless its PeerAuthentication is STRICT";
        }
        line
    }
}

/// Outlier detection in words: the detectors that eject, and how many at a time.
fn outlier_detection(settings: &outlier::Settings) -> String {
    let thresholds = settings.thresholds();
    let (rate, percentage) = (&settings.success_rate, &settings.failure_percentage);
    let detectors = [
        (thresholds.gateway, Detector::ConsecutiveGatewayFailure),
        (thresholds.row, thresholds.first),
        (rate.request_volume, settings.success_rate_detector()),
        (percentage.request_volume, settings.failure_percentage_detector()),
    ];
    let mut words = Vec::new();
    for (number, detector) in detectors {
        let chance = match settings.enforcing(detector) {
            0 => continue,
            100 => String::new(),
            percent => format!(" (enforced at {percent} %)"),
        };
        let rule = match detector {
            Detector::SuccessRate | Detector::SuccessRateLocalOrigin => {
                let (factor, hosts) = (f64::from(rate.stdev_factor) / 1000.0, rate.minimum_hosts);
                format!("{factor} deviations under the mean, of {hosts} with {number} connects")
            }
            Detector::FailurePercentage | Detector::FailurePercentageLocalOrigin => {
                format!("from {} %, of {} with {number} connects", percentage.threshold, percentage.minimum_hosts)
            }
            _ if number == 0 => continue,
            _ => number.to_string(),
        };
        words.push(format!("{detector} {rule}{chance}"));
    }
    let detectors = if words.is_empty() { "no detector is enforced".to_owned() } else { words.join("; ") };
    let one = if settings.always_eject_one_host { ", one always" } else { "" };
    format!(
        "{detectors}; every {} ms; ejects for {} to {} ms, at most {} % at a time{one}",
        settings.interval, settings.base_ejection_time, settings.max_ejection_time, settings.max_ejection_percent
    )
}

fn addresses(view: &View<'_>, name: &NameView) -> Result<Vec<IpAddr>, Torn> {
    (0..name.address_count()).map(|nth| view.address(name, nth).map(WordAddr::ip)).collect()
}

/// An action in a line.
fn summary(view: &View<'_>, action: ActionView) -> Result<String, Torn> {
    Ok(match action {
        ActionView::Refuse => "black hole: ECONNREFUSED".into(),
        ActionView::Pass(reason) => format!("passes: {}", meaning(reason)),
        ActionView::Clusters { first, count, .. } => {
            let name = |nth| view.cluster(view.weighted(first, nth)?.0).and_then(|cluster| view.string(cluster.name));
            (0..count).map(name).collect::<Result<Vec<_>, Torn>>()?.join(", ")
        }
        ActionView::ServerNames(_) => return Err(Torn),
    })
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    if texts.is_empty() { "no address".into() } else { texts.join(", ") }
}

fn meaning(reason: PassReason) -> &'static str {
    match reason {
        PassReason::OriginalDestination => "the control plane says: the address that was dialled",
        PassReason::NeedsTls => "the endpoints demand TLS",
        PassReason::NeedsBytes => "the decision depends on bytes of the request",
        PassReason::Unsupported => "a policy that this build cannot give",
        PassReason::NoCluster => "the route names a cluster that is not there",
        PassReason::NoEndpointsYet => "its endpoints are not there yet",
        PassReason::NoHealthyEndpoint => "it has no usable endpoint",
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_target_is_a_host_and_perhaps_a_port() {
        let cases = [
            ("greeter", "greeter", None),
            ("greeter.other:80", "greeter.other", Some(80)),
            ("10.96.0.10", "10.96.0.10", None),
            ("10.96.0.10:80", "10.96.0.10", Some(80)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("[2001:db8::1]", "2001:db8::1", None),
        ];
        for (target, host, port) in cases {
            assert_eq!(split(target).unwrap(), (host.to_owned(), port), "{target}");
        }
    }

    #[test]
    fn a_bad_port_is_named() {
        for target in ["greeter:http", "greeter:70000", "[::1"] {
            assert!(format!("{:#}", split(target).unwrap_err()).contains(target));
        }
    }
}
