//! The detectors that compare endpoints over an interval: success rate and failure percentage.
//!
//! Success rate (Envoy): of the endpoints with enough volume, if there are enough of them, those whose rate is under
//! `mean - factor * standard deviation` (of the population) are outliers. Failure percentage: those whose share of
//! failures is at or over the limit. Endpoints that are ejected already do not take part; neither do those without
//! any connect.

use super::{FailurePercentage, SuccessRate};

/// How the connects of an interval ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Established.
    pub successes: u32,
    /// Failed.
    pub failures: u32,
}

impl Volume {
    fn total(self) -> u64 {
        u64::from(self.successes) + u64::from(self.failures)
    }

    /// Successes in percent, if there are at least so many connects, and any.
    fn rate(self, least: u32) -> Option<f64> {
        let total = self.total();
        (total > 0 && total >= u64::from(least)).then(|| f64::from(self.successes) * 100.0 / total as f64)
    }
}

/// Rates of the endpoints with enough volume, by their place in `volumes`; `None` when they are too few.
fn rates(volumes: &[Volume], least_volume: u32, least_hosts: u32) -> Option<Vec<(usize, f64)>> {
    let rates: Vec<_> =
        volumes.iter().enumerate().filter_map(|(at, volume)| Some((at, volume.rate(least_volume)?))).collect();
    (!rates.is_empty() && rates.len() as u64 >= u64::from(least_hosts)).then_some(rates)
}

/// The outliers by success rate among endpoints that are not ejected: places in `volumes`.
pub fn by_success_rate(settings: &SuccessRate, volumes: &[Volume]) -> Vec<usize> {
    let Some(rates) = rates(volumes, settings.request_volume, settings.minimum_hosts) else { return Vec::new() };
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - f64::from(settings.stdev_factor) / 1000.0 * variance.sqrt();
    rates.into_iter().filter(|(_, rate)| *rate < threshold).map(|(at, _)| at).collect()
}

/// The outliers by failure percentage among endpoints that are not ejected: places in `volumes`.
pub fn by_failure_percentage(settings: &FailurePercentage, volumes: &[Volume]) -> Vec<usize> {
    let Some(rates) = rates(volumes, settings.request_volume, settings.minimum_hosts) else { return Vec::new() };
    let limit = f64::from(settings.threshold);
    rates.into_iter().filter(|(_, rate)| 100.0 - rate >= limit).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::super::settings::testing::ANYBODY;
    use super::*;

    fn volumes(of: &[(u32, u32)]) -> Vec<Volume> {
        of.iter().map(|(successes, failures)| Volume { successes: *successes, failures: *failures }).collect()
    }

    #[track_caller]
    fn check_rate(change: impl FnOnce(&mut SuccessRate), of: &[(u32, u32)], expected: &[usize]) {
        let mut settings = ANYBODY.success_rate;
        change(&mut settings);
        assert_eq!(by_success_rate(&settings, &volumes(of)), expected, "{settings:?}");
    }

    #[test]
    fn success_rates_against_worked_numbers() {
        // Rates 50, 100, 100, 100, 100: mean 90, variance 400, deviation 20, threshold 90 - 1.9 * 20 = 52.
        let one_of_five = [(50, 50), (100, 0), (100, 0), (100, 0), (100, 0)];
        check_rate(|_| {}, &one_of_five, &[0]);
        // 53 %: mean 90.6, deviation 18.8, threshold 54.88. In a set of five, one alone is under it whatever its rate.
        check_rate(|_| {}, &[(53, 47), (100, 0), (100, 0), (100, 0), (100, 0)], &[0]);
        // With two standard deviations it is never: (n - 1) / sqrt(n - 1) is 2 for five.
        check_rate(|s| s.stdev_factor = 2000, &one_of_five, &[]);
        // Two bad ones shift the mean: rates 50, 50, 100, 100, 100: mean 80, deviation 24.5, threshold 33.5.
        check_rate(|_| {}, &[(50, 50), (50, 50), (100, 0), (100, 0), (100, 0)], &[]);
        // All alike: the threshold is the mean, and nobody is under it.
        check_rate(|_| {}, &[(70, 30); 5], &[]);
        // One of ten: mean 95, deviation 15, threshold 66.5.
        let mut ten = [(200, 0); 10];
        ten[7] = (100, 100);
        check_rate(|_| {}, &ten, &[7]);
    }

    #[test]
    fn too_few_endpoints_or_too_little_volume_conclude_nothing() {
        let four = [(0, 100), (100, 0), (100, 0), (100, 0)];
        check_rate(|_| {}, &four, &[]);
        check_rate(|s| s.minimum_hosts = 4, &four, &[]);
        check_rate(|s| (s.minimum_hosts, s.stdev_factor) = (4, 1000), &four, &[0]);
        // The bad one has 99 connects: it does not count, and four are too few.
        check_rate(|_| {}, &[(0, 99), (100, 0), (100, 0), (100, 0), (100, 0)], &[]);
        // The volume is of all connects, not of successes.
        check_rate(|_| {}, &[(1, 99), (100, 0), (100, 0), (100, 0), (100, 0)], &[0]);
        // Without any connect there is no rate, even where none is asked for.
        check_rate(|s| (s.request_volume, s.minimum_hosts) = (0, 0), &[(0, 0); 5], &[]);
        check_rate(|_| {}, &[], &[]);
    }

    #[track_caller]
    fn check_percentage(change: impl FnOnce(&mut FailurePercentage), of: &[(u32, u32)], expected: &[usize]) {
        let mut settings = ANYBODY.failure_percentage;
        change(&mut settings);
        assert_eq!(by_failure_percentage(&settings, &volumes(of)), expected, "{settings:?}");
    }

    #[test]
    fn failure_percentages_against_worked_numbers() {
        let good = (50, 0);
        // 85 % of 100 is at the limit, 84 % under it.
        check_percentage(|_| {}, &[(15, 85), (16, 84), good, good, good], &[0]);
        check_percentage(|s| s.threshold = 84, &[(15, 85), (16, 84), good, good, good], &[0, 1]);
        // Whoever fails, the others do not matter.
        check_percentage(|_| {}, &[(0, 50); 5], &[0, 1, 2, 3, 4]);
        check_percentage(|_| {}, &[(0, 50), (0, 49), good, good, good], &[]);
        check_percentage(|s| s.minimum_hosts = 4, &[(0, 50), (0, 49), good, good, good], &[0]);
        check_percentage(|s| s.threshold = 0, &[good; 5], &[0, 1, 2, 3, 4]);
    }
}
