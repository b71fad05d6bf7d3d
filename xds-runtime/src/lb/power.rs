//! A power without libm, which hooks should not need.

/// Binary digits of the exponent's fraction that count: the result is right to about 1e-5.
const DIGITS: usize = 20;

/// `base^(numerator / denominator)` for a base that is not negative; a denominator of 0 counts as 1.
pub(super) fn power(base: f64, numerator: u32, denominator: u32) -> f64 {
    let denominator = u64::from(denominator.max(1));
    let mut power = 1.0;
    let mut square = base;
    let mut whole = u64::from(numerator) / denominator;
    while whole != 0 {
        if whole & 1 == 1 {
            power *= square;
        }
        square *= square;
        whole >>= 1;
    }
    // Each digit of the fraction stands for a root: 1/2, 1/4, 1/8...
    let (mut root, mut rest) = (base, u64::from(numerator) % denominator);
    for _ in 0..DIGITS {
        if rest == 0 {
            break;
        }
        root = root.sqrt();
        rest *= 2;
        if rest >= denominator {
            power *= root;
            rest -= denominator;
        }
    }
    power
}

#[cfg(test)]
mod tests {
    use super::power;

    #[track_caller]
    fn check(base: f64, numerator: u32, denominator: u32) {
        let (ours, libm) =
            (power(base, numerator, denominator), base.powf(f64::from(numerator) / f64::from(denominator)));
        assert!((ours / libm - 1.0).abs() < 2e-5, "{base}^({numerator}/{denominator}): {ours} instead of {libm}");
    }

    #[test]
    fn it_is_powf_to_five_digits() {
        for thousandths in (0..=5000).step_by(7).chain([1, 500, 999, 1000, 1500, 2000]) {
            for load in [1_u32, 2, 3, 7, 50, 1000, 65_000] {
                check(f64::from(load), thousandths, 1000);
            }
        }
        for aggression in [100, 333, 500, 1000, 1500, 2000, 10_000, 123_457] {
            for share in [0.001, 0.1, 0.25, 0.5, 0.999, 1.0] {
                check(share, 1000, aggression);
            }
        }
    }

    #[test]
    fn a_huge_exponent_is_no_fault() {
        assert!(power(1e6, u32::MAX, 1000).is_infinite());
        assert_eq!(power(1.0, u32::MAX, 1000), 1.0);
        assert_eq!(power(0.5, u32::MAX, 0), 0.0);
    }
}
