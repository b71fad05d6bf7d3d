//! A power without libm, which hooks should not need.

/// Binary digits of the exponent's fraction that count: the result is right to about 1e-5.
const DIGITS: usize = 20;

/// `base^(thousandths / 1000)` for a base of 1 or more.
pub(super) fn power(base: f64, thousandths: u32) -> f64 {
    let mut power = 1.0;
    let mut square = base;
    let mut whole = thousandths / 1000;
    while whole != 0 {
        if whole & 1 == 1 {
            power *= square;
        }
        square *= square;
        whole >>= 1;
    }
    // Each digit of the fraction stands for a root: 1/2, 1/4, 1/8...
    let (mut root, mut rest) = (base, thousandths % 1000);
    for _ in 0..DIGITS {
        if rest == 0 {
            break;
        }
        root = root.sqrt();
        rest *= 2;
        if rest >= 1000 {
            power *= root;
            rest -= 1000;
        }
    }
    power
}

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn it_is_powf_to_five_digits() {
        for thousandths in (0..=5000).step_by(7).chain([1, 500, 999, 1000, 1500, 2000]) {
            for load in [1_u32, 2, 3, 7, 50, 1000, 65_000] {
                let (ours, libm) =
                    (power(f64::from(load), thousandths), f64::from(load).powf(f64::from(thousandths) / 1000.0));
                assert!((ours / libm - 1.0).abs() < 2e-5, "{load}^{thousandths}/1000: {ours} instead of {libm}");
            }
        }
    }

    #[test]
    fn a_huge_exponent_is_no_fault() {
        assert!(power(1e6, u32::MAX).is_infinite());
        assert_eq!(power(1.0, u32::MAX), 1.0);
    }
}
