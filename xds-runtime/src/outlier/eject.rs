//! From a detection to an ejection that every process sees, one at a time in a cluster.
//!
//! The share of ejected endpoints holds between racing processes because whoever counts and ejects has a claim on the
//! cluster's slot. Nobody waits for it for long: the holder may be the code that this signal handler interrupted, or
//! a process that was stopped. A claim that is not given back ends by itself; its holder, when it wakes up, finds that
//! and ejects nobody.

use super::{Census, Decision, Detector, Settings, decide};
use crate::lb::Entropy;
use crate::shm::Millis;
use crate::state::{Claim, Member, Slot, State};

/// Looks at a claim that another has, before the detection is left to the next failure: some tens of microseconds.
const CLAIM_LOOKS: u32 = 64;
const SPINS: u32 = 32;

/// What a detection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint is ejected until then.
    Ejected(Millis),
    /// It was already.
    EjectedBefore,
    /// Too many of the cluster are.
    Overflow,
    /// Chance spared it.
    NotEnforced,
    /// Another process is deciding about this cluster, or the census cannot be had now.
    Busy,
    /// The endpoint or its cluster has no slot: nothing that others could see.
    NoSlot,
}

/// Decides about a detection and ejects; `census` counts the cluster's endpoints, under the claim.
pub fn eject(
    state: &State,
    member: &Member,
    settings: &Settings,
    detector: Detector,
    census: &mut dyn FnMut() -> Option<Census>,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
) -> Verdict {
    let (Some(cluster), Some(endpoint)) = (member.cluster(state), member.endpoint(state)) else {
        return Verdict::NoSlot;
    };
    if endpoint.is_ejected(now) {
        return Verdict::EjectedBefore;
    }
    let Some(claim) = claim(&cluster, now, entropy) else { return Verdict::Busy };
    let verdict = match census() {
        _ if endpoint.is_ejected(now) => Verdict::EjectedBefore,
        None => Verdict::Busy,
        Some(census) => match decide(settings, detector, census, endpoint.ejection().multiplier, now, entropy) {
            Decision::Overflow => Verdict::Overflow,
            Decision::NotEnforced => Verdict::NotEnforced,
            // Counted by a census that is out of date by now.
            Decision::Eject { .. } if !cluster.holds(claim) => Verdict::Busy,
            Decision::Eject { until, multiplier } => {
                // The cluster first: whoever finds the endpoint ejected counts exactly.
                cluster.somebody_is_ejected(until);
                endpoint.eject(until, multiplier, detector);
                Verdict::Ejected(until)
            }
        },
    };
    cluster.give_back(claim);
    verdict
}

fn claim(cluster: &Slot<'_>, now: Millis, entropy: &mut (impl Entropy + ?Sized)) -> Option<Claim> {
    for _ in 0..CLAIM_LOOKS {
        if let Some(claim) = cluster.claim(now, entropy.next()) {
            return Some(claim);
        }
        (0..SPINS).for_each(|_| std::hint::spin_loop());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::super::settings::testing::ANYBODY;
    use super::*;
    use crate::lb::Seeded;
    use crate::state::{SlotAllocator, testing};
    use proptest::prelude::*;

    const CLUSTER: u64 = 1_000_000;

    fn cluster(hosts: u32) -> (State, Vec<Member>) {
        let state = testing::state(hosts as usize + 1);
        let mut book = SlotAllocator::recover(state);
        let cluster_slot = book.slot(CLUSTER);
        let member = |tag: u32| Member {
            endpoint_slot: book.slot(u64::from(tag) + 1),
            endpoint_tag: u64::from(tag) + 1,
            cluster_slot,
            cluster_tag: CLUSTER,
        };
        (state, (0..hosts).map(member).collect())
    }

    fn census(state: &State, members: &[Member], now: Millis) -> Census {
        let ejected = members.iter().filter(|member| member.endpoint(state).unwrap().is_ejected(now)).count();
        Census { hosts: members.len() as u32, ejected: ejected as u32 }
    }

    fn eject_at(state: &State, members: &[Member], nth: usize, settings: &Settings, now: Millis) -> Verdict {
        let mut count = || Some(census(state, members, now));
        eject(state, &members[nth], settings, Detector::Consecutive5xx, &mut count, now, &mut Seeded(now))
    }

    #[test]
    fn an_ejection_is_seen_in_both_slots_and_ends_by_its_time() {
        let (state, members) = cluster(2);
        let settings = Settings { max_ejection_percent: 50, ..ANYBODY };
        assert_eq!(eject_at(&state, &members, 0, &settings, 1_000), Verdict::Ejected(31_000));
        assert_eq!(eject_at(&state, &members, 0, &settings, 30_999), Verdict::EjectedBefore);
        assert_eq!(eject_at(&state, &members, 1, &settings, 30_999), Verdict::Overflow);
        assert!(members[0].cluster(&state).unwrap().is_ejected(30_999));
        assert!(!members[0].endpoint(&state).unwrap().is_ejected(31_000));
        assert_eq!(eject_at(&state, &members, 1, &settings, 31_000), Verdict::Ejected(61_000));
    }

    #[test]
    fn who_cannot_claim_or_count_ejects_nobody() {
        let (state, members) = cluster(2);
        let slot = members[0].cluster(&state).unwrap();
        let held = slot.claim(1_000, 9).unwrap();
        assert_eq!(eject_at(&state, &members, 0, &ANYBODY, 1_500), Verdict::Busy);
        assert_eq!(eject_at(&state, &members, 0, &ANYBODY, 2_000), Verdict::Ejected(32_000), "its holder is late");
        assert!(!slot.holds(held));
        let mut none = || None;
        let verdict = eject(&state, &members[1], &ANYBODY, Detector::SuccessRate, &mut none, 2_000, &mut Seeded(1));
        assert_eq!(verdict, Verdict::Busy);
        let gone = Member { endpoint_tag: 77, ..members[1] };
        assert_eq!(eject_at(&state, &[gone], 0, &ANYBODY, 2_000), Verdict::NoSlot);
    }

    #[test]
    fn a_holder_that_was_stopped_too_long_ejects_nobody_when_it_wakes_up() {
        let (state, members) = cluster(2);
        let mut stopped = || {
            assert_eq!(eject_at(&state, &members, 1, &ANYBODY, 3_000), Verdict::Ejected(33_000));
            Some(Census { hosts: 2, ejected: 0 })
        };
        let settings = Settings { max_ejection_percent: 50, ..ANYBODY };
        let detector = Detector::Consecutive5xx;
        let verdict = eject(&state, &members[0], &settings, detector, &mut stopped, 1_000, &mut Seeded(1));
        assert_eq!(verdict, Verdict::Busy);
        assert!(!members[0].endpoint(&state).unwrap().is_ejected(3_000));
    }

    /// Threads eject whom they like while the clock runs; an observer counts. Nobody may ever be ejected over the share.
    fn race(hosts: u32, percent: u8, threads: u64, seed: u64) -> Result<(), TestCaseError> {
        let (state, members) = cluster(hosts);
        let settings =
            Settings { max_ejection_percent: percent, base_ejection_time: 40, max_ejection_time: 90, ..ANYBODY };
        let (clock, done) = (AtomicU64::new(1_000), AtomicBool::new(false));
        let most = u64::from(percent) * u64::from(hosts) / 100;
        let (worst, ejections) = std::thread::scope(|scope| {
            let (members, clock, done) = (&members, &clock, &done);
            let eject = |thread: u64| {
                let mut entropy = Seeded(seed ^ thread);
                let mut ejections = 0;
                for _ in 0..400 {
                    let now = clock.fetch_add(u64::from(entropy.next().is_multiple_of(8)), Ordering::SeqCst);
                    let nth = entropy.next() as usize % members.len();
                    let mut count = || {
                        let counted = census(&state, members, now);
                        // Between counting and ejecting is when another one must not do the same.
                        std::thread::yield_now();
                        Some(counted)
                    };
                    let detector = Detector::Consecutive5xx;
                    let verdict =
                        super::eject(&state, &members[nth], &settings, detector, &mut count, now, &mut entropy);
                    ejections += u64::from(matches!(verdict, Verdict::Ejected(_)));
                }
                ejections
            };
            let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || eject(thread))).collect();
            let observer = scope.spawn(|| {
                let mut worst = 0;
                while !done.load(Ordering::Relaxed) {
                    let now = clock.load(Ordering::SeqCst);
                    let ejected = u64::from(census(&state, members, now).ejected);
                    // A count over which time went on has ejections in it that ended meanwhile.
                    if clock.load(Ordering::SeqCst) == now {
                        worst = worst.max(ejected);
                    }
                }
                worst
            });
            let ejections: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            done.store(true, Ordering::Relaxed);
            (observer.join().unwrap(), ejections)
        });
        prop_assert!(worst <= most, "{worst} of {hosts} were ejected at a time, {percent} % are {most}");
        prop_assert!(most == 0 || ejections > 0);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn however_threads_race_the_share_is_never_exceeded(
            hosts in 1_u32..12, percent in 0_u8..=100, threads in 2_u64..5, seed: u64,
        ) {
            race(hosts, percent, threads, seed)?;
        }
    }

    #[test]
    fn one_of_racing_processes_ejects_an_endpoint() {
        let (state, members) = cluster(4);
        let meet = std::sync::Barrier::new(4);
        let verdicts = std::thread::scope(|scope| {
            let eject = || {
                meet.wait();
                eject_at(&state, &members, 2, &ANYBODY, 1_000)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(eject)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut tally = HashMap::new();
        verdicts.iter().for_each(|verdict| *tally.entry(format!("{verdict:?}")).or_insert(0) += 1);
        assert_eq!(tally.get("Ejected(31000)"), Some(&1), "{tally:?}");
        assert_eq!(members[2].endpoint(&state).unwrap().ejection().times, 1);
    }
}
