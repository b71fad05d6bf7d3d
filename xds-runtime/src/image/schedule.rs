//! What the encoder works out once per set of endpoints, so that a weighted pick costs one search.

use crate::image::mesh::Endpoint;
use crate::resource::Health;

/// Brings the weights of a priority into 32 bits of sum, without their common divisor.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    divisor: u64,
}

impl Scale {
    /// The scale of these endpoints.
    pub(super) fn of<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Self {
        let weights = || endpoints.clone().filter(|e| e.health != Health::Draining).map(|e| u64::from(e.weight.max(1)));
        let common = weights().try_fold(0, |common, weight| if common == 1 { None } else { Some(gcd(common, weight)) });
        let common = common.unwrap_or(1).max(1);
        let (count, sum) = weights().fold((0_u64, 0_u64), |(n, sum), weight| (n + 1, sum.saturating_add(weight)));
        // Every weight rounds up to at least 1, so each endpoint costs up to one more than its share.
        let room = u64::from(u32::MAX).saturating_sub(count).max(1);
        Self { divisor: if sum / common <= room { common } else { sum.div_ceil(room) } }
    }

    /// The weight of an endpoint in the schedule; draining ones have none.
    pub(super) fn weight(self, endpoint: &Endpoint) -> u32 {
        if endpoint.health == Health::Draining {
            return 0;
        }
        // Mostly so, and a division takes longer than the rest.
        if self.divisor == 1 {
            return endpoint.weight.max(1);
        }
        u32::try_from(u64::from(endpoint.weight).checked_div(self.divisor).unwrap_or(1)).unwrap_or(u32::MAX).max(1)
    }
}

/// A step that visits every position of `0..sum` once before it repeats, and spreads neighbours: near the golden
/// section of the sum and coprime with it.
pub(super) fn stride(sum: u32) -> u32 {
    let golden = (f64::from(sum) * 0.618_033_988_749_895) as u32;
    (golden.max(1)..sum.max(2)).find(|step| gcd(u64::from(*step), u64::from(sum)) == 1).unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_visits_every_position_once() {
        for sum in [1_u32, 2, 3, 4, 6, 10, 30, 97, 210, 1000, 30_030] {
            let step = u64::from(stride(sum));
            let mut seen: Vec<u64> = (0..u64::from(sum)).map(|n| n * step % u64::from(sum)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..u64::from(sum)).collect::<Vec<_>>(), "sum {sum}");
        }
    }

    fn endpoint(weight: u32, health: Health) -> Endpoint {
        Endpoint { address: ([127, 0, 0, 1], 80).into(), weight, health, takes_mtls: false, slot: None }
    }

    #[test]
    fn weights_lose_their_common_divisor_and_draining_ones_weigh_nothing() {
        let all = [endpoint(100, Health::Healthy), endpoint(300, Health::Healthy), endpoint(7, Health::Draining)];
        let scale = Scale::of(all.iter());
        assert_eq!(all.each_ref().map(|e| scale.weight(e)), [1, 3, 0]);
    }

    #[test]
    fn weights_that_overflow_together_are_scaled_into_32_bits() {
        let all = vec![endpoint(u32::MAX, Health::Healthy); 1000];
        let odd = endpoint(u32::MAX - 1, Health::Healthy);
        let scale = Scale::of(all.iter().chain([&odd]));
        let sum: u64 = all.iter().chain([&odd]).map(|e| u64::from(scale.weight(e))).sum();
        assert!(sum <= u64::from(u32::MAX) && sum > u64::from(u32::MAX) / 2, "{sum}");
    }
}
