//! Host names of DNS clusters, resolved by an own resolver, kept fresh by their TTL; the last good answer stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A TTL below this counts as this (Envoy refreshes every 5 s without looking at the TTL).
const TTL_LEAST: Duration = Duration::from_secs(1);
/// And one above as this.
const TTL_MOST: Duration = Duration::from_secs(300);
/// After a failure.
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

/// The names being watched.
#[derive(Default)]
pub struct Hostnames {
    resolver: Option<TokioResolver>,
    /// When each is due; `None` = a look-up is under way.
    due: BTreeMap<String, Option<Instant>>,
    resolved: BTreeMap<String, Vec<IpAddr>>,
    running: JoinSet<Answer>,
}

impl Hostnames {
    /// Watches exactly these names.
    pub fn watch(&mut self, names: &BTreeSet<String>) {
        self.due.retain(|name, _| names.contains(name));
        self.resolved.retain(|name, _| names.contains(name));
        for name in names {
            self.due.entry(name.clone()).or_insert_with(|| Some(Instant::now()));
        }
        self.start_due();
    }

    /// What is known.
    pub const fn resolved(&self) -> &BTreeMap<String, Vec<IpAddr>> {
        &self.resolved
    }

    /// When [`Hostnames::start_due`] is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.values().flatten().min().copied()
    }

    /// Starts the look-ups that are due.
    pub fn start_due(&mut self) {
        let now = Instant::now();
        for (name, due) in &mut self.due {
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
        let Some(due) = self.due.get_mut(&answer.name) else { return false };
        let (found, pause) = match answer.outcome {
            Outcome::Found(addresses, ttl) => (Some(addresses), ttl.clamp(TTL_LEAST, TTL_MOST)),
            // Last good stays; a name that never had an address is known to have none.
            Outcome::Nothing => ((!self.resolved.contains_key(&answer.name)).then(Vec::new), RETRY),
            Outcome::Failed(reason) => {
                log::warn!("{}: {reason}; the last good addresses stay", answer.name);
                (None, RETRY)
            }
        };
        *due = Some(Instant::now() + pause);
        match found {
            Some(addresses) if self.resolved.get(&answer.name) != Some(&addresses) => {
                self.resolved.insert(answer.name, addresses);
                true
            }
            _ => false,
        }
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
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            // An answer in another order is the same answer.
            addresses.sort_unstable();
            addresses.dedup();
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

    fn watched() -> Hostnames {
        let mut names = Hostnames::default();
        names.due.insert("db.example".to_owned(), None);
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_keeps_the_last_good_addresses_and_is_repeated() {
        let mut names = watched();
        let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        assert!(names.take(answer(Outcome::Found(addresses.clone(), Duration::from_secs(30)))));
        assert_eq!(names.next_due(), Some(Instant::now() + Duration::from_secs(30)));
        assert!(!names.take(answer(Outcome::Found(addresses.clone(), Duration::ZERO))), "no change");
        assert!(!names.take(answer(Outcome::Failed("timed out".to_owned()))));
        assert!(!names.take(answer(Outcome::Nothing)));
        assert_eq!(names.resolved()["db.example"], addresses);
        assert_eq!(names.next_due(), Some(Instant::now() + RETRY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_never_existed_is_known_to_have_no_address() {
        let mut names = watched();
        assert!(names.take(answer(Outcome::Nothing)));
        assert_eq!(names.resolved()["db.example"], Vec::<IpAddr>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_names_any_more_is_forgotten() {
        let mut names = watched();
        names.take(answer(Outcome::Found(Vec::new(), TTL_LEAST)));
        names.watch(&BTreeSet::new());
        assert!(names.resolved().is_empty() && names.next_due().is_none());
        assert!(!names.take(answer(Outcome::Nothing)));
    }
}
