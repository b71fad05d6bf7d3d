//! Randomness as an argument.

/// A source of random words.
pub trait Entropy {
    /// The next word.
    fn next(&mut self) -> u64;
}

/// SplitMix64: small, fast, and good enough for balancing (not for secrets).
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One word for ever: with a hash policy a connection's key decides everything.
pub(super) struct Constant(pub u64);

impl Entropy for Constant {
    fn next(&mut self) -> u64 {
        self.0
    }
}

/// A number below `bound`; 0 when the bound is 0. Multiplies instead of dividing: the bias is below 2^-32 for the
/// bounds in use.
#[inline]
pub(super) fn below(entropy: &mut (impl Entropy + ?Sized), bound: u64) -> u64 {
    ((u128::from(entropy.next()) * u128::from(bound)) >> 64) as u64
}
