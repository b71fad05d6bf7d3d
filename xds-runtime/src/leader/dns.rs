//! Host names of DNS clusters, resolved by an own resolver, kept fresh by their TTL; the last good answer stays.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::resource::DnsRefresh;

/// No name is looked up more often than this, whatever its TTL or its cluster says.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
/// Without a resolver.
const RETRY: Duration = Duration::from_secs(5);

/// One finished look-up.
#[derive(Debug)]
pub struct Answer {
    name: String,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Found(Vec<IpAddr>, Duration),
    /// The name does not exist, or has no address.
    Nothing,
    Failed(String),
}

/// A name.
struct Watched {
    refresh: DnsRefresh,
    /// When it is due; `None` = a look-up is under way.
    due: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

/// The names being watched.
#[derive(Default)]
pub struct Hostnames {
    resolver: Option<TokioResolver>,
    names: BTreeMap<String, Watched>,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    running: JoinSet<Answer>,
}

impl Hostnames {
    /// Watches exactly these names.
    pub fn watch(&mut self, names: &BTreeMap<String, DnsRefresh>) {
        self.names.retain(|name, _| names.contains_key(name));
        self.resolved.retain(|name, _| names.contains_key(name));
        for (name, refresh) in names {
            let new = || Watched { refresh: *refresh, due: Some(Instant::now()), failures: 0 };
            let watched = self.names.entry(name.clone()).or_insert_with(new);
            if watched.refresh != *refresh {
                // An answer that was to live long may be wanted fresher now.
                watched.refresh = *refresh;
                watched.due = watched.due.map(|due| due.min(Instant::now() + refresh.interval));
            }
        }
        self.start_due();
    }

    /// What is known.
    pub const fn resolved(&self) -> &BTreeMap<String, Vec<IpAddr>> {
        &self.resolved
    }

    /// When [`Hostnames::start_due`] is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.names.values().filter_map(|watched| watched.due).min()
    }

    /// Starts the look-ups that are due.
    pub fn start_due(&mut self) {
        let now = Instant::now();
        for (name, Watched { due, .. }) in &mut self.names {
            if due.is_none_or(|due| due > now) {
                continue;
            }
            if self.resolver.is_none() {
                self.resolver = build_resolver().inspect_err(|error| log::warn!("no resolver: {error}")).ok();
            }
            match &self.resolver {
                Some(resolver) => {
                    *due = None;
                    self.running.spawn(look_up(resolver.clone(), name.clone()));
                }
                None => *due = Some(now + RETRY),
            }
        }
    }

    /// The next finished look-up; never, while none runs.
    pub async fn next(&mut self) -> Answer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                // A look-up that panicked stays undue: its name keeps the last good answer.
                Some(Err(error)) => log::error!("a DNS look-up failed: {error}"),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes an answer; true when addresses changed.
    pub fn take(&mut self, answer: Answer) -> bool {
        let Some(watched) = self.names.get_mut(&answer.name) else { return false };
        let refresh = watched.refresh;
        let (found, pause) = match answer.outcome {
            Outcome::Found(addresses, ttl) => {
                watched.failures = 0;
                let by_ttl = refresh.respect_ttl && !ttl.is_zero();
                (Some(addresses), if by_ttl { ttl } else { refresh.interval })
            }
            // Last good stays; a name that never had an address is known to have none.
            Outcome::Nothing => (
                (!self.resolved.contains_key(&answer.name)).then(Vec::new),
                watched.failed(RandomState::new().hash_one(())),
            ),
            Outcome::Failed(reason) => {
                log::warn!("{}: {reason}; the last good addresses stay", answer.name);
                (None, watched.failed(RandomState::new().hash_one(())))
            }
        };
        watched.due = Some(Instant::now() + pause.max(PAUSE_LEAST));
        match found {
            Some(addresses) if self.resolved.get(&answer.name) != Some(&addresses) => {
                self.resolved.insert(answer.name, addresses);
                true
            }
            _ => false,
        }
    }
}

impl Watched {
    /// The pause after a failure: a random part of a bound that doubles with each one in a row, but for the first
    /// `retry` (a cluster without `dns_failure_refresh_rate` has a fixed one).
    fn failed(&mut self, random: u64) -> Duration {
        let DnsRefresh { retry, retry_most, .. } = self.refresh;
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        if retry == retry_most {
            return retry;
        }
        let bound = retry.saturating_mul(1 << doublings).min(retry_most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        // The high word of the product is uniform in 0..nanos.
        Duration::from_nanos(((u128::from(random) * u128::from(nanos)) >> 64) as u64)
    }
}

fn build_resolver() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // TTLs are kept here: an answer from a cache would be older than it says.
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

async fn look_up(resolver: TokioResolver, name: String) -> Answer {
    // The final dot: a host name of the mesh is never completed by a search list.
    let outcome = match resolver.lookup_ip(format!("{name}.")).await {
        Ok(found) => {
            // In the answer's order: its first address is a LOGICAL_DNS cluster's endpoint.
            let addresses: Vec<IpAddr> = found.iter().collect();
            let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
            Outcome::Found(addresses, ttl)
        }
        Err(error) if error.is_no_records_found() => Outcome::Nothing,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    Answer { name, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: Outcome) -> Answer {
        Answer { name: "db.example".to_owned(), outcome }
    }

    fn watched(refresh: DnsRefresh) -> Hostnames {
        let mut names = Hostnames::default();
        names.names.insert("db.example".to_owned(), Watched { refresh, due: None, failures: 0 });
        names
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn next(names: &Hostnames) -> Duration {
        names.next_due().unwrap() - Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_keeps_the_last_good_addresses_and_is_repeated() {
        let mut names = watched(DnsRefresh::default());
        let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        assert!(names.take(answer(Outcome::Found(addresses.clone(), seconds(30)))));
        assert!(!names.take(answer(Outcome::Found(addresses.clone(), Duration::ZERO))), "no change");
        assert!(!names.take(answer(Outcome::Failed("timed out".to_owned()))));
        assert!(!names.take(answer(Outcome::Nothing)));
        assert_eq!(names.resolved()["db.example"], addresses);
        assert_eq!(next(&names), seconds(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_at_its_clusters_rate_or_by_its_ttl() {
        let found = |ttl| answer(Outcome::Found(Vec::new(), ttl));
        let mut names = watched(DnsRefresh { interval: seconds(7), ..DnsRefresh::default() });
        names.take(found(seconds(300)));
        assert_eq!(next(&names), seconds(7), "the TTL has no say");
        let mut names = watched(DnsRefresh { interval: seconds(7), respect_ttl: true, ..DnsRefresh::default() });
        names.take(found(seconds(3600)));
        assert_eq!(next(&names), seconds(3600));
        names.take(found(Duration::ZERO));
        assert_eq!(next(&names), seconds(7), "a TTL of 0 says nothing");
        names.take(found(Duration::from_millis(1)));
        assert_eq!(next(&names), PAUSE_LEAST);
    }

    #[test]
    fn pauses_after_failures_grow_to_their_bound_and_a_success_ends_the_row() {
        let refresh = DnsRefresh { retry: seconds(2), retry_most: seconds(10), ..DnsRefresh::default() };
        let mut watched = Watched { refresh, due: None, failures: 0 };
        let bounds: Vec<_> = (0..5).map(|_| watched.failed(u64::MAX).as_secs_f64().round()).collect();
        assert_eq!(bounds, [2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(watched.failed(0), Duration::ZERO, "jitter over the whole bound");
        watched.failures = 0;
        assert!(watched.failed(u64::MAX) <= seconds(2));
        watched.refresh = DnsRefresh::default();
        assert_eq!((watched.failed(0), watched.failed(u64::MAX)), (seconds(5), seconds(5)), "a fixed pause");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_wants_it_fresher_brings_the_look_up_forward() {
        let slow = DnsRefresh { interval: seconds(600), ..DnsRefresh::default() };
        let mut names = watched(slow);
        names.take(answer(Outcome::Found(Vec::new(), Duration::ZERO)));
        assert_eq!(next(&names), seconds(600));
        let both = slow.with(DnsRefresh { interval: seconds(20), ..DnsRefresh::default() });
        names.watch(&BTreeMap::from([("db.example".to_owned(), both)]));
        assert_eq!(next(&names), seconds(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_never_existed_is_known_to_have_no_address() {
        let mut names = watched(DnsRefresh::default());
        assert!(names.take(answer(Outcome::Nothing)));
        assert_eq!(names.resolved()["db.example"], Vec::<IpAddr>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_names_any_more_is_forgotten() {
        let mut names = watched(DnsRefresh::default());
        names.take(answer(Outcome::Found(Vec::new(), seconds(1))));
        names.watch(&BTreeMap::new());
        assert!(names.resolved().is_empty() && names.next_due().is_none());
        assert!(!names.take(answer(Outcome::Nothing)));
    }
}
