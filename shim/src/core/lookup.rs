//! Whether a name is the mesh's, and its addresses.
//!
//! ```text
//! libc's own (digits, hosts file, ..) -> pass
//! candidates -> image (see [`super::ask`]) -> hit: wanted, endpoints there? -> found
//! ```

use log::Level;
use xds_runtime::config::{FailMode, Mode, Resolve};
use xds_runtime::control::WISH_EXPIRY_MS;
use xds_runtime::image::{Torn, View};
use xds_runtime::names::{Candidates, Families, LibcName, Whose};
use xds_runtime::shm::{self, Millis, WordAddr};

use crate::core::answered;
use crate::core::ask::{Question, ask};
use crate::core::endpoint;
use crate::core::mesh::{Attached, Mesh};
use crate::core::process::Context;
use crate::core::verdict::{Refusal, Verdict, Why};

/// Addresses of one name that are answered at most.
pub const ADDRESSES: usize = 48;
/// Longest name (RFC 1035) and a final nul.
const NAME: usize = 256;

/// A name of the mesh.
pub struct Found {
    addresses: [WordAddr; ADDRESSES],
    count: usize,
    name: [u8; NAME],
    name_length: usize,
    headless: bool,
}

/// A lookup that the mesh fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No configuration, and `LDMESH_FAIL=closed`.
    Again,
}

impl Found {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        addresses: [WordAddr { hi: 0, lo: 0 }; ADDRESSES],
        count: 0,
        name: [0; NAME],
        name_length: 0,
        headless: false,
    };

    /// The addresses in the image's order.
    pub fn addresses(&self) -> &[WordAddr] {
        self.addresses.get(..self.count).unwrap_or(&[])
    }

    fn addresses_mut(&mut self) -> &mut [WordAddr] {
        self.addresses.get_mut(..self.count).unwrap_or_default()
    }

    /// The addresses of one family.
    pub fn of_family(&self, v4: bool) -> impl Iterator<Item = WordAddr> + Clone + '_ {
        self.addresses().iter().copied().filter(move |address| address.ip().is_ipv4() == v4)
    }

    /// The full name.
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.name_length).unwrap_or(&[])
    }

    /// The full name, nul-terminated.
    pub fn c_name(&self) -> &[u8] {
        self.name.get(..=self.name_length).unwrap_or(&[0])
    }

    /// Copies the first candidate that the image knows. Of too many addresses, those from a place on that `seed`
    /// says: in time each is answered, as by a nameserver that turns its records.
    fn fill(&mut self, view: &View<'_>, candidates: &Candidates<'_>, seed: impl Fn() -> u64) -> Result<bool, Torn> {
        for candidate in candidates.clone() {
            let Some(name) = view.name(candidate.as_bytes())? else { continue };
            self.count = 0;
            self.headless = name.headless;
            let all = name.address_count();
            let first = if all as usize > ADDRESSES { (seed() % u64::from(all)) as u32 } else { 0 };
            for (nth, place) in (first..all).chain(0..first).zip(&mut self.addresses) {
                *place = view.address(&name, nth)?;
                self.count += 1;
            }
            let room = self.name.get_mut(..NAME - 1).unwrap_or_default();
            self.name_length = view.text(name.text, room)?.len();
            if let Some(end) = self.name.get_mut(self.name_length) {
                *end = 0;
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// Looks a name up as the program wrote it.
pub fn lookup(context: &'static Context, name: &str, asked: Families, found: &mut Found) -> Verdict<(), Fault> {
    decide(context, name, || context.files.whose(name, asked), found)
}

/// Looks a name up as a query of the DNS: with the search list, or as it is.
pub fn lookup_in_dns(context: &'static Context, name: &str, search: bool, found: &mut Found) -> Verdict<(), Fault> {
    decide(context, name, || context.files.whose_in_dns(name, search), found)
}

fn decide<'a>(
    context: &'static Context,
    name: &str,
    whose: impl FnOnce() -> Whose<'a>,
    found: &mut Found,
) -> Verdict<(), Fault> {
    if context.settings.scope.excludes_name(name) {
        return Verdict::Pass(Why::Excluded);
    }
    let candidates = match whose() {
        Whose::Ask(candidates) => candidates,
        Whose::Libc(reason) => return Verdict::Pass(Why::from(reason)),
        Whose::Unknown(unknown) => {
            context.log.line(Level::Warn, format_args!("{unknown}"));
            return Verdict::Pass(Why::FilesUnknown);
        }
    };
    let verdict = match context.attach(true) {
        Ok(pod) => {
            let mesh = Attached { context, pod };
            let verdict = find(context, &mesh, &candidates, found);
            if verdict == Verdict::Redirect(()) {
                answered::note(mesh.image(), name, found.addresses().iter().copied());
            }
            verdict
        }
        Err(why) => Verdict::Pass(why),
    };
    match verdict {
        Verdict::Pass(Why::NoImage | Why::NoRunDirectory)
            if context.settings.fail == FailMode::Closed && context.settings.mode != Mode::Shadow =>
        {
            context.refused(Refusal::NoConfiguration, format_args!("lookup of {name}"));
            Verdict::Fail(Fault::Again)
        }
        Verdict::Redirect(()) if context.settings.mode == Mode::Shadow => {
            let name = String::from_utf8_lossy(found.name());
            context.log.line(Level::Info, format_args!("lookup: would answer {name} from the mesh"));
            Verdict::Pass(Why::Shadow)
        }
        verdict => verdict,
    }
}

/// Finds a candidate in the image, waiting as long as the pod may.
pub fn find(context: &Context, mesh: &dyn Mesh, candidates: &Candidates<'_>, found: &mut Found) -> Verdict<(), Fault> {
    let verdict = ask(context, mesh, &mut Forward { context, candidates, found });
    if verdict == Verdict::Redirect(()) && context.settings.resolve == Resolve::Endpoint && !found.headless {
        for address in found.addresses_mut() {
            *address = endpoint::instead_of(context, mesh, *address, shm::now()).unwrap_or(*address);
        }
    }
    verdict
}

/// Which addresses a name has.
struct Forward<'a> {
    context: &'a Context,
    candidates: &'a Candidates<'a>,
    found: &'a mut Found,
}

impl Question for Forward<'_> {
    fn read(&mut self, view: &View<'_>) -> Result<bool, Torn> {
        self.found.fill(view, self.candidates, || self.context.entropy(0))
    }

    /// A hit: its destinations are wanted, and waiting for their endpoints is worth while.
    fn judge(&self, context: &Context, mesh: &dyn Mesh, now: Millis) -> (Verdict<(), Fault>, Millis) {
        let control = mesh.control();
        let name = std::str::from_utf8(self.found.name()).unwrap_or_default();
        if context.settings.scope.excludes_name(name) {
            return (Verdict::Pass(Why::Excluded), 0);
        }
        if self.found.headless {
            return (Verdict::Redirect(()), 0);
        }
        // However old the configuration is, a VIP is a name's best answer: past `LDMESH_MAX_STALE` it is the connect
        // that passes, to the kernel's own path for that VIP.
        let patience = context.settings.ready_timeout.as_millis() as Millis;
        let mut until = 0;
        for address in self.found.addresses() {
            if let Some(wish) = control.want(address.wanted_key(), now, WISH_EXPIRY_MS)
                && !wish.answered
            {
                until = until.max(wish.first.saturating_add(patience));
            }
        }
        (Verdict::Redirect(()), until)
    }
}

impl From<LibcName> for Why {
    fn from(reason: LibcName) -> Self {
        match reason {
            LibcName::Numeric => Self::Numeric,
            LibcName::OwnHostname => Self::OwnHostname,
            LibcName::Localhost => Self::Localhost,
            LibcName::HostsFile => Self::HostsFile,
            LibcName::HostAlias => Self::HostAlias,
            LibcName::Malformed => Self::NotAName,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::Ordering;

    use xds_runtime::control::Switch;
    use xds_runtime::image::Destination;
    use xds_runtime::names::{NameFiles, ResolvConf, ResolverEnv, candidates};

    use super::*;
    use crate::core::testing::{MemoryPod, VIP, greeter};

    const SEARCH: &str = "search shop.svc.cluster.local svc.cluster.local\noptions ndots:5";

    fn found(pod: &MemoryPod, variables: &[(&str, &str)], name: &str) -> (Verdict<(), Fault>, Found) {
        let own = [("LDMESH_READY_TIMEOUT", "30ms")];
        let variables: Vec<_> = variables.iter().copied().chain(own).collect();
        let context = Context::for_test(&variables, NameFiles::system(ResolverEnv::default()));
        let conf = ResolvConf::parse(SEARCH.as_bytes(), &ResolverEnv::default(), "host");
        let mut found = Found::EMPTY;
        let verdict = find(context, pod, &candidates(name, &conf), &mut found);
        (verdict, found)
    }

    fn answered(pod: &MemoryPod) {
        let address = WordAddr::new(VIP.parse().unwrap());
        pod.control().want(address.wanted_key(), shm::now(), WISH_EXPIRY_MS);
        pod.control().sweep_wanted(shm::now(), WISH_EXPIRY_MS, |_| true);
    }

    #[test]
    fn a_short_name_is_found_through_the_search_list() {
        let pod = MemoryPod::with(&greeter(None));
        answered(&pod);
        for name in ["greeter", "Greeter.shop", "greeter.shop.svc.cluster.local."] {
            let (verdict, found) = found(&pod, &[], name);
            assert_eq!(verdict, Verdict::Redirect(()), "{name}");
            assert_eq!(found.name(), b"greeter.shop.svc.cluster.local");
            assert_eq!(found.c_name().last(), Some(&0));
            assert_eq!(found.addresses(), [WordAddr::new(VIP.parse().unwrap())]);
        }
        for name in ["greeter.", "greeter.other", "greete", "greeters"] {
            assert_eq!(found(&pod, &[], name).0, Verdict::Pass(Why::NotInMesh), "{name}");
        }
    }

    #[test]
    fn a_name_whose_endpoints_are_asked_for_waits_and_is_answered_all_the_same() {
        let pod = MemoryPod::with(&greeter(None));
        let before = shm::now();
        assert_eq!(found(&pod, &[], "greeter").0, Verdict::Redirect(()));
        assert!(shm::now() - before >= 30);
    }

    #[test]
    fn of_too_many_addresses_each_is_answered_in_time() {
        let mut tables = greeter(None);
        let all: Vec<IpAddr> = (1..=100).map(|last| IpAddr::from([10, 1, 0, last])).collect();
        tables.names[1].addresses = all.clone();
        let pod = MemoryPod::with(&tables);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let (_, found) = found(&pod, &[], "db");
            assert_eq!(found.addresses().len(), ADDRESSES);
            seen.extend(found.addresses().iter().map(|address| address.ip()));
        }
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn a_headless_name_waits_for_nothing_and_keeps_its_order() {
        let pod = MemoryPod::with(&greeter(None));
        let (verdict, found) = found(&pod, &[("LDMESH_READY_TIMEOUT", "60s")], "db");
        assert_eq!(verdict, Verdict::Redirect(()));
        assert_eq!((found.of_family(true).count(), found.of_family(false).count()), (1, 1));
    }

    fn resolved(pod: &MemoryPod) -> Vec<String> {
        answered(pod);
        let (verdict, found) = found(pod, &[("LDMESH_RESOLVE", "endpoint")], "greeter");
        assert_eq!(verdict, Verdict::Redirect(()));
        found.addresses().iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn an_endpoint_is_answered_where_it_serves_the_services_port() {
        let mut tables = greeter(Some(&["10.1.0.1", "10.1.0.2"]));
        tables.destinations[0].port = 8080;
        let pod = MemoryPod::with(&tables);
        let mut seen: Vec<_> = (0..50).flat_map(|_| resolved(&pod)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(found(&pod, &[], "greeter").1.addresses(), [WordAddr::new(VIP.parse().unwrap())]);
    }

    #[test]
    fn the_vip_is_answered_where_a_port_is_another_one_or_the_family_is() {
        assert_eq!(resolved(&MemoryPod::with(&greeter(Some(&["10.1.0.1"])))), [VIP], "80 is 8080");
        let mut tables = greeter(Some(&["10.1.0.1"]));
        tables.destinations[0].port = 8080;
        let second = Destination { port: 9090, ..tables.destinations[0].clone() };
        tables.destinations.push(second);
        assert_eq!(resolved(&MemoryPod::with(&tables)), [VIP], "one of two ports");
        let mut tables = greeter(Some(&["fd00::1"]));
        tables.destinations[0].port = 8080;
        assert_eq!(resolved(&MemoryPod::with(&tables)), [VIP]);
        let mut tables = greeter(None);
        tables.destinations[0].port = 8080;
        assert_eq!(resolved(&MemoryPod::with(&tables)), [VIP], "no endpoints yet");
    }

    #[test]
    fn an_excluded_name_passes_by_its_full_name_too() {
        let pod = MemoryPod::with(&greeter(None));
        let exclude = [("LDMESH_EXCLUDE", "*.shop.svc.cluster.local")];
        assert_eq!(found(&pod, &exclude, "greeter").0, Verdict::Pass(Why::Excluded));
    }

    #[test]
    fn past_its_staleness_names_are_still_answered() {
        let pod = MemoryPod::with(&greeter(None));
        pod.control().set_max_stale(1000);
        pod.control().heard(shm::now() - 2000);
        assert_eq!(found(&pod, &[], "greeter").0, Verdict::Redirect(()));
        assert_eq!(found(&pod, &[], "db").0, Verdict::Redirect(()));
    }

    #[test]
    fn without_configuration_a_pod_waits_once_and_calls_for_a_leader() {
        let pod = MemoryPod::empty();
        let before = shm::now();
        assert_eq!(found(&pod, &[], "greeter").0, Verdict::Pass(Why::NoImage));
        let first = shm::now();
        assert!(first - before >= 30);
        assert_eq!(found(&pod, &[("LDMESH_READY_TIMEOUT", "60s")], "greeter").0, Verdict::Pass(Why::NoImage));
        assert!(shm::now() - first < 30_000, "the pod's wait is over");
        assert!(pod.called.load(Ordering::Relaxed) >= 2);
    }

    #[test]
    fn news_end_the_wait() {
        let pod = MemoryPod::empty();
        let before = shm::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| found(&pod, &[("LDMESH_READY_TIMEOUT", "60s")], "greeter").0);
            while !waiting.is_finished() {
                pod.control().set_switch(Switch::Off);
            }
            assert_eq!(waiting.join().unwrap(), Verdict::Pass(Why::SwitchedOff));
        });
        assert!(shm::now() - before < 30_000);
    }
}
