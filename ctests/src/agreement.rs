//! Whether two samples come from one distribution, and a table of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::dials::Answers;

/// The error that a test allows itself: one false alarm in a million comparisons.
const FALSE_ALARM: f64 = 1e-6;

/// Pearson's statistic of observed counts against expected ones, with its degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ChiSquare {
    value: f64,
    freedom: u32,
}

impl ChiSquare {
    /// How likely chance alone makes it at least so large.
    fn likelihood(self) -> f64 {
        let half = self.value / 2.0;
        // The sum for whole degrees of freedom: its terms are half^p / gamma(p + 1), p in steps of one up to k/2 - 1,
        // from 0 for even k; from 1/2 for odd ones, where the tail of the normal distribution is the rest.
        let odd = self.freedom % 2 == 1;
        let (mut power, mut sum) = (if odd { 0.5 } else { 0.0 }, 0.0);
        let mut term = if odd { 2.0 * (half / std::f64::consts::PI).sqrt() } else { 1.0 };
        while power < f64::from(self.freedom) / 2.0 - 0.5 {
            sum += term;
            power += 1.0;
            term *= half / power;
        }
        let rest = if odd { normal_tails(self.value.sqrt()) } else { 0.0 };
        rest + (-half).exp() * sum
    }

    fn holds(self) -> bool {
        self.freedom == 0 || self.likelihood() >= FALSE_ALARM
    }
}

impl std::fmt::Display for ChiSquare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.freedom == 0 {
            return f.write_str("same");
        }
        write!(f, "{:.1} of {} (p = {:.1e})", self.value, self.freedom, self.likelihood())
    }
}

/// Both tails of the normal distribution beyond `deviation`, to a relative error of 1e-6 (Abramowitz and Stegun 7.1.14:
/// the continued fraction of the complementary error function; its series where that converges slowly, 7.1.6).
fn normal_tails(deviation: f64) -> f64 {
    let (x, root_pi) = (deviation / std::f64::consts::SQRT_2, std::f64::consts::PI.sqrt());
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - 2.0 / root_pi * (-x * x).exp() * sum;
    }
    let fraction = (1..60).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / (root_pi * fraction)
}

/// Two samples of the same size or not, from one distribution?
fn two_samples(one: &BTreeMap<&str, u64>, other: &BTreeMap<&str, u64>) -> ChiSquare {
    let names: BTreeSet<&str> = one.keys().chain(other.keys()).copied().collect();
    let sum = |sample: &BTreeMap<&str, u64>| sample.values().sum::<u64>() as f64;
    let (of_one, of_other) = (sum(one), sum(other));
    let mut value = 0.0;
    for name in &names {
        let count = |sample: &BTreeMap<&str, u64>| sample.get(name).copied().unwrap_or(0) as f64;
        let both = count(one) + count(other);
        for (seen, size) in [(count(one), of_one), (count(other), of_other)] {
            let expected = both * size / (of_one + of_other);
            value += (seen - expected).powi(2) / expected;
        }
    }
    ChiSquare { value, freedom: names.len().saturating_sub(1) as u32 }
}

/// A sample from this distribution? What is expected never to come and did makes the value infinite.
fn against(sample: &BTreeMap<&str, u64>, shares: &BTreeMap<&str, f64>) -> ChiSquare {
    let names: BTreeSet<&str> = sample.keys().chain(shares.keys()).copied().collect();
    let size = sample.values().sum::<u64>() as f64;
    let whole: f64 = shares.values().sum();
    let mut value = 0.0;
    for name in &names {
        let seen = sample.get(name).copied().unwrap_or(0) as f64;
        let expected = size * shares.get(name).copied().unwrap_or(0.0) / whole;
        if seen != expected {
            value += (seen - expected).powi(2) / expected;
        }
    }
    let possible = shares.values().filter(|share| **share > 0.0).count();
    // One outcome, and nothing else: no freedom, and no deviation either.
    if possible == 1 && value > 0.0 {
        return ChiSquare { value: f64::INFINITY, freedom: 1 };
    }
    ChiSquare { value, freedom: possible.saturating_sub(1) as u32 }
}

/// What Envoy and ldmesh did under one policy, and what they should have.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The policy.
    pub policy: &'a str,
    /// Envoy's answers.
    pub envoy: &'a Answers,
    /// Those of ldmesh.
    pub ldmesh: &'a Answers,
    /// The share of each endpoint, of any whole, where arithmetic can tell.
    pub expected: Option<Shares<'a>>,
    /// The shares with ldmesh, where it differs on purpose.
    pub on_purpose: Option<Shares<'a>>,
}

type Shares<'a> = BTreeMap<&'a str, f64>;

fn percent_of(shares: Option<&Shares<'_>>, name: &str) -> String {
    let Some(shares) = shares else { return "-".to_owned() };
    let whole: f64 = shares.values().sum();
    format!("{:.2}", 100.0 * shares.get(name).copied().unwrap_or(0.0) / whole)
}

impl Comparison<'_> {
    /// Rows of a table: policy, endpoint, its share with Envoy and with ldmesh, and the expected one, in percent.
    /// Then what the tests say.
    pub fn table(&self) -> String {
        let (envoy, ldmesh) = (self.envoy.tally(), self.ldmesh.tally());
        let mut names: BTreeSet<&str> = envoy.keys().chain(ldmesh.keys()).copied().collect();
        names.extend(self.expected.iter().flat_map(BTreeMap::keys).copied());
        let percent = |sample: &BTreeMap<&str, u64>, name: &str, size: usize| {
            100.0 * sample.get(name).copied().unwrap_or(0) as f64 / size.max(1) as f64
        };
        let mut text = String::new();
        for name in names {
            let mut expected = percent_of(self.expected.as_ref(), name);
            if self.on_purpose.is_some() {
                expected.push_str(&format!(" / {}", percent_of(self.on_purpose.as_ref(), name)));
            }
            let (of_envoy, of_ldmesh) =
                (percent(&envoy, name, self.envoy.len()), percent(&ldmesh, name, self.ldmesh.len()));
            let _ = writeln!(text, "{:28} {name:24} {of_envoy:8.2} {of_ldmesh:8.2} {expected:>9}", self.policy);
        }
        let _ = write!(text, "{:28} chi-square: ", "");
        if self.on_purpose.is_none() {
            let _ = write!(text, "both {}; ", two_samples(&envoy, &ldmesh));
        }
        if let Some(shares) = &self.expected {
            let _ = write!(text, "Envoy {}; ", against(&envoy, shares));
        }
        if let Some(shares) = self.on_purpose.as_ref().or(self.expected.as_ref()) {
            let _ = write!(text, "ldmesh {}", against(&ldmesh, shares));
        }
        text.push('\n');
        text
    }

    /// Whether both agree with each other and with what is expected.
    pub fn holds(&self) -> bool {
        let (envoy, ldmesh) = (self.envoy.tally(), self.ldmesh.tally());
        let fits = |sample: &BTreeMap<&str, u64>, shares: Option<&Shares<'_>>| {
            shares.is_none_or(|shares| against(sample, shares).holds())
        };
        let agree = self.on_purpose.is_some() || two_samples(&envoy, &ldmesh).holds();
        let of_ldmesh = self.on_purpose.as_ref().or(self.expected.as_ref());
        agree && fits(&envoy, self.expected.as_ref()) && fits(&ldmesh, of_ldmesh)
    }

    /// The head of the table.
    pub fn head() -> String {
        format!("{:28} {:24} {:>8} {:>8} {:>9}\n", "policy", "endpoint", "Envoy %", "ldmesh %", "expected")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(counts: &[(&str, usize)]) -> Answers {
        Answers(counts.iter().flat_map(|(name, count)| std::iter::repeat_n((*name).to_owned(), *count)).collect())
    }

    #[track_caller]
    fn check(envoy: &[(&str, usize)], ldmesh: &[(&str, usize)], expected: Option<&[(&str, f64)]>, holds: bool) {
        let (envoy, ldmesh) = (answers(envoy), answers(ldmesh));
        let expected = expected.map(|shares| shares.iter().copied().collect());
        let comparison = Comparison { policy: "test", envoy: &envoy, ldmesh: &ldmesh, expected, on_purpose: None };
        assert_eq!(comparison.holds(), holds, "{}", comparison.table());
    }

    #[test]
    fn the_likelihood_is_that_of_tables() {
        for (value, freedom, expected) in [
            (3.841, 1, 0.05),
            (6.635, 1, 0.01),
            (5.991, 2, 0.05),
            (13.816, 2, 0.001),
            (7.815, 3, 0.05),
            (18.307, 10, 0.05),
            (23.928, 1, FALSE_ALARM),
            (30.665, 3, FALSE_ALARM),
            (44.811, 9, FALSE_ALARM),
        ] {
            let likelihood = ChiSquare { value, freedom }.likelihood();
            assert!((likelihood / expected - 1.0).abs() < 0.005, "{value} of {freedom}: {likelihood}");
        }
    }

    #[test]
    fn noise_agrees_and_a_shift_of_a_few_percent_does_not() {
        check(&[("a", 5000), ("b", 5000)], &[("a", 5100), ("b", 4900)], None, true);
        check(&[("a", 5000), ("b", 5000)], &[("a", 5400), ("b", 4600)], None, false);
        check(&[("a", 5000), ("b", 5000)], &[("a", 5000), ("b", 5000)], Some(&[("a", 1.0), ("b", 1.2)]), false);
        check(&[("a", 10_000)], &[("a", 9990), ("closed", 10)], Some(&[("a", 1.0)]), false);
        check(&[("a", 10_000)], &[("a", 10_000)], Some(&[("a", 1.0)]), true);
    }

    #[test]
    fn what_is_never_to_come_may_not_come_once() {
        check(&[("a", 500), ("b", 500)], &[("a", 500), ("b", 499), ("c", 1)], Some(&[("a", 1.0), ("b", 1.0)]), false);
    }
}
