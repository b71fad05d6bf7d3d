//! Whether a detection ejects, and for how long.
//!
//! Envoy, in this order: the share of ejected endpoints with this one must not exceed `max_ejection_percent`; then
//! chance decides as the detector's `enforcing_*` says; then the multiplier grows by one, unless it is at the longest
//! time already, and the ejection lasts the base time as often as that, at most the longest time, plus jitter.

use super::{Detector, Settings};
use crate::lb::Entropy;
use crate::shm::Millis;

/// The endpoints of a cluster, all priorities together, without those that are draining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All of them.
    pub hosts: u32,
    /// Those that are ejected now.
    pub ejected: u32,
}

/// What becomes of a detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The endpoint is ejected.
    Eject {
        /// Until when.
        until: Millis,
        /// Its multiplier from now on.
        multiplier: u32,
    },
    /// Too many are ejected already.
    Overflow,
    /// Chance spared it.
    NotEnforced,
}

/// Decides about an endpoint that is not ejected and has this multiplier.
pub fn decide(
    settings: &Settings,
    detector: Detector,
    census: Census,
    multiplier: u32,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
) -> Decision {
    if !may_eject(settings, census) {
        return Decision::Overflow;
    }
    if entropy.next() % 100 >= u64::from(settings.enforcing(detector)) {
        return Decision::NotEnforced;
    }
    let multiplier = grown(settings, multiplier);
    let most = settings.max_ejection_time;
    let time = settings.base_ejection_time.saturating_mul(u64::from(multiplier)).min(most);
    let jitter = match settings.max_ejection_time_jitter.checked_add(1) {
        Some(values) => entropy.next() % values,
        None => entropy.next(),
    };
    Decision::Eject { until: now.saturating_add(time).saturating_add(jitter), multiplier }
}

/// Whether one more may be ejected. The share is not rounded: with 10 %, nobody of nine is, one of ten.
fn may_eject(settings: &Settings, census: Census) -> bool {
    let with_this = u64::from(census.ejected).saturating_add(1).saturating_mul(100);
    let hosts = u64::from(census.hosts).saturating_add(u64::from(settings.draining));
    let most = u64::from(settings.max_ejection_percent.min(100)).saturating_mul(hosts);
    with_this <= most || settings.always_eject_one_host && census.ejected == 0
}

/// The multiplier of the next ejection.
fn grown(settings: &Settings, multiplier: u32) -> u32 {
    let so_far = settings.base_ejection_time.saturating_mul(u64::from(multiplier));
    let longest = settings.max_ejection_time.saturating_add(settings.base_ejection_time);
    if so_far < longest { multiplier.saturating_add(1) } else { multiplier }
}

#[cfg(test)]
mod tests {
    use super::super::settings::testing::ANYBODY;
    use super::*;
    use crate::lb::Seeded;
    use proptest::prelude::*;

    const DETECTOR: Detector = Detector::Consecutive5xx;

    fn of_ten(ejected: u32) -> Census {
        Census { hosts: 10, ejected }
    }

    #[test]
    fn at_most_the_percentage_is_ejected_and_it_is_not_rounded_up() {
        // hosts, percent, always one: how many of them are ejected at most.
        let table = [
            (10, 10, false, 1),
            (9, 10, false, 0),
            (9, 10, true, 1),
            (1, 10, false, 0),
            (1, 10, true, 1),
            (1, 100, false, 1),
            (2, 50, false, 1),
            (3, 50, false, 1),
            (3, 33, false, 0),
            (3, 34, false, 1),
            (3, 67, false, 2),
            (7, 0, false, 0),
            (7, 0, true, 1),
            (200, 10, true, 20),
        ];
        for (hosts, max_ejection_percent, always_eject_one_host, expected) in table {
            let settings = Settings { max_ejection_percent, always_eject_one_host, ..ANYBODY };
            let most = (0..=hosts).take_while(|ejected| may_eject(&settings, Census { hosts, ejected: *ejected }));
            assert_eq!(most.count(), expected, "{max_ejection_percent} % of {hosts}, {always_eject_one_host}");
        }
    }

    #[test]
    fn who_is_draining_is_a_part_of_the_whole() {
        let settings = Settings { max_ejection_percent: 10, draining: 3, ..ANYBODY };
        let of = |hosts| may_eject(&settings, Census { hosts, ejected: 0 });
        assert_eq!((of(6), of(7)), (false, true));
    }

    /// How long ejections last that follow each other.
    #[track_caller]
    fn check_times(settings: Settings, expected: &[Millis]) {
        let mut multiplier = 0;
        for (nth, expected) in expected.iter().enumerate() {
            match decide(&settings, DETECTOR, of_ten(0), multiplier, 1_000, &mut Seeded(1)) {
                Decision::Eject { until, multiplier: next } => {
                    assert_eq!(until - 1_000, *expected, "ejection {}", nth + 1);
                    multiplier = next;
                }
                other => panic!("ejection {}: {other:?}", nth + 1),
            }
        }
    }

    #[test]
    fn each_ejection_is_a_base_time_longer_up_to_the_longest() {
        let times = |base, max| Settings { base_ejection_time: base, max_ejection_time: max, ..ANYBODY };
        check_times(times(30_000, 300_000), &[30_000, 60_000, 90_000, 120_000, 150_000]);
        check_times(times(30_000, 70_000), &[30_000, 60_000, 70_000, 70_000, 70_000]);
        check_times(times(30_000, 30_000), &[30_000, 30_000]);
    }

    #[test]
    fn the_multiplier_stops_one_above_the_longest_time() {
        // Envoy compares what it is, not what it becomes: 30, 60, 90 s are under 60 + 30 s until it is 3.
        let settings = Settings { base_ejection_time: 30_000, max_ejection_time: 60_000, ..ANYBODY };
        let multipliers: Vec<_> = (0..5)
            .scan(0, |now, _| {
                *now = grown(&settings, *now);
                Some(*now)
            })
            .collect();
        assert_eq!(multipliers, [1, 2, 3, 3, 3]);
    }

    #[test]
    fn jitter_is_evenly_between_nothing_and_its_most() {
        let settings = Settings { max_ejection_time_jitter: 9, ..ANYBODY };
        let mut tally = [0_u32; 10];
        let mut entropy = Seeded(7);
        for _ in 0..10_000 {
            let Decision::Eject { until, .. } = decide(&settings, DETECTOR, of_ten(0), 0, 0, &mut entropy) else {
                panic!("not ejected")
            };
            tally[usize::try_from(until - 30_000).unwrap()] += 1;
        }
        assert!(tally.iter().all(|count| (850..1150).contains(count)), "{tally:?}");
    }

    #[test]
    fn enforcing_is_a_chance() {
        for (percent, range) in [(0, 0..=0), (30, 2_800..=3_200), (99, 9_850..=9_950), (100, 10_000..=10_000)] {
            let settings = Settings { enforcing_row: percent, ..ANYBODY };
            let mut entropy = Seeded(3);
            let mut decision = || decide(&settings, DETECTOR, of_ten(0), 0, 0, &mut entropy);
            let ejected = (0..10_000).filter(|_| decision() != Decision::NotEnforced).count();
            assert!(range.contains(&ejected), "{percent} %: {ejected}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_settings_nobody_is_ejected_over_the_share_or_longer_than_allowed(
            words in proptest::array::uniform9(any::<u64>()), ejected: u32, hosts: u32, multiplier: u32, seed: u64,
        ) {
            let settings = Settings::of(words);
            let census = Census { hosts, ejected };
            if let Decision::Eject { until, .. } =
                decide(&settings, DETECTOR, census, multiplier, 0, &mut Seeded(seed))
            {
                let share = f64::from(ejected) + 1.0;
                let hosts = f64::from(hosts) + f64::from(settings.draining);
                let most = hosts * f64::from(settings.max_ejection_percent.min(100)) / 100.0;
                prop_assert!(share <= most || settings.always_eject_one_host && ejected == 0);
                let longest = settings.max_ejection_time.saturating_add(settings.max_ejection_time_jitter);
                prop_assert!(until <= longest);
            }
        }
    }
}
